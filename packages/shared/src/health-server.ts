import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Registry } from "prom-client";

/** A reason why a process is not ready, in words for its operator; never a secret. */
export type NotReady = string;

export interface HealthServerOptions {
  readonly host: string;
  /** 0: a free one. */
  readonly port: number;
  readonly registry: Registry;
  /** Empty where the process is ready. */
  readonly readiness: () => Promise<readonly NotReady[]>;
}

export interface HealthServer {
  readonly url: string;
  close(): Promise<void>;
}

/** Serves `/metrics`, `/healthz` (the process answers) and `/readyz` (it can do its work; 503 with why not). */
export async function serveHealth({
  host,
  port,
  registry,
  readiness,
}: HealthServerOptions): Promise<HealthServer> {
  const server = createServer(async (request, response) => {
    const answer = (status: number, type: string, body: string) =>
      response.writeHead(status, { "content-type": type }).end(body);
    try {
      if (request.method !== "GET") answer(405, "text/plain", "only GET\n");
      else if (request.url === "/healthz") answer(200, "application/json", '{"status":"ok"}\n');
      else if (request.url === "/readyz") {
        const reasons = await readiness();
        answer(
          reasons.length > 0 ? 503 : 200,
          "application/json",
          `${JSON.stringify({ ready: reasons.length === 0, reasons })}\n`,
        );
      } else if (request.url === "/metrics") answer(200, registry.contentType, await registry.metrics());
      else answer(404, "text/plain", "/metrics, /healthz or /readyz\n");
    } catch {
      // A readiness check that throws has not shown that the process is ready.
      answer(503, "application/json", '{"ready":false,"reasons":["the check itself failed"]}\n');
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
  const address = server.address() as AddressInfo;
  return {
    url: `http://${address.family === "IPv6" ? `[${address.address}]` : address.address}:${address.port}`,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
