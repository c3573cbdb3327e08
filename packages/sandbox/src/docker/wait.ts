import { request } from "node:http";
import type { EngineAddress } from "./address.ts";

const BODY_BYTES_MAX = 64 * 1024;

/** The engine answered with something else than an exit status. */
export class WaitRefused extends Error {
  readonly statusCode: number;

  constructor(statusCode: number, body: string) {
    super(body);
    this.statusCode = statusCode;
  }
}

/**
 * Waits for a container's exit status, as long as it takes. By a request of our own: the engine sends the
 * head of its answer at once and the body at the exit, and the client library never settles when the
 * connection is cut between the two, as it is when an engine dies.
 */
export function waitForExitStatus(
  address: EngineAddress,
  containerId: string,
  signal: AbortSignal,
): Promise<number> {
  const result = Promise.withResolvers<number>();
  const asked = request({
    ...address,
    method: "POST",
    path: `/containers/${containerId}/wait`,
    headers: { Host: "docker" },
    agent: false,
    signal,
  });
  asked.once("response", (response) => {
    let body = "";
    response.setEncoding("utf8");
    response.on("data", (text: string) => {
      if (body.length < BODY_BYTES_MAX) body += text;
    });
    response.once("error", result.reject);
    response.once("end", () => {
      if (response.statusCode !== 200) {
        result.reject(new WaitRefused(response.statusCode ?? 0, body));
        return;
      }
      try {
        const { StatusCode } = JSON.parse(body) as { readonly StatusCode: number };
        result.resolve(StatusCode);
      } catch (error) {
        result.reject(error);
      }
    });
  });
  asked.on("error", result.reject);
  asked.end();
  return result.promise;
}
