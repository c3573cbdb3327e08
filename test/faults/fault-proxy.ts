import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/**
 * What goes wrong with a request.
 *
 * - `slow-down`: 503 with S3's `SlowDown`, nothing reaches the server
 * - `conflict`: 409, nothing reaches the server
 * - `reset`: the connection is cut, nothing reaches the server
 * - `lost-answer`: the server does it, the connection is cut before its answer
 * - `hang`: neither reaches the server nor is answered
 * - `hang-after`: the server does it, and the answer never comes
 * - `truncate`: the answer's body ends halfway
 * - `corrupt`: one bit of the answer's body is another
 * - `skewed`: 403 `RequestTimeTooSkewed`, nothing reaches the server
 * - `denied`: 403 `AccessDenied`
 */
export type Fault =
  | "slow-down"
  | "conflict"
  | "reset"
  | "lost-answer"
  | "hang"
  | "hang-after"
  | "truncate"
  | "corrupt"
  | "skewed"
  | "denied";

const ANSWERS: Partial<Record<Fault, readonly [number, string]>> = {
  "slow-down": [503, "SlowDown"],
  conflict: [409, "ConditionalRequestConflict"],
  skewed: [403, "RequestTimeTooSkewed"],
  denied: [403, "AccessDenied"],
};

/** Decides what goes wrong with a request; undefined: nothing. */
export type FaultRule = (method: string, path: string) => Fault | undefined;

/** A proxy before a real S3 server that makes faults on the wire. */
export class FaultProxy {
  readonly url: string;
  /** Faults made so far. */
  faults = 0;
  /** Requests that came. */
  requests = 0;
  /** Nothing goes wrong before a test says so. */
  rule: FaultRule = () => undefined;
  /** Called before a request goes on, for whatever else has to happen in between. */
  onRequest: (method: string, path: string) => Promise<void> | undefined = () => undefined;
  readonly #server: Server;
  readonly #target: URL;

  private constructor(server: Server, target: URL) {
    this.#server = server;
    this.#target = target;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(target: string): Promise<FaultProxy> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const proxy = new FaultProxy(server, new URL(target));
    server.on("request", (incoming, outgoing) => void proxy.#handle(incoming, outgoing));
    return proxy;
  }

  /** Makes the next `count` requests that match go wrong. */
  failNext(count: number, fault: Fault, matches: (method: string, path: string) => boolean): void {
    let left = count;
    this.rule = (method, path) => (left > 0 && matches(method, path) && left-- > 0 ? fault : undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #handle(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    this.requests++;
    const method = incoming.method ?? "";
    const path = decodeURIComponent(new URL(incoming.url ?? "/", this.url).pathname);
    const parts: Buffer[] = [];
    for await (const part of incoming) parts.push(part as Buffer);
    await this.onRequest(method, path);
    const fault = this.rule(method, path);
    if (fault !== undefined) this.faults++;
    if (fault === "hang") return;
    if (fault === "reset") return void incoming.socket.destroy();
    const answer = fault === undefined ? undefined : ANSWERS[fault];
    if (answer !== undefined) {
      const [status, code] = answer;
      outgoing.writeHead(status, { "content-type": "application/xml" });
      return void outgoing.end(
        `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`,
      );
    }
    const { response, body } = await this.#forward(incoming, Buffer.concat(parts));
    if (fault === "hang-after") return;
    if (fault === "lost-answer") return void incoming.socket.destroy();
    outgoing.writeHead(response.statusCode ?? 502, response.headers);
    if (fault === "truncate") {
      outgoing.write(body.subarray(0, Math.floor(body.length / 2)), () => incoming.socket.destroy());
      return;
    }
    const middle = Math.floor(body.length / 2);
    if (fault === "corrupt" && body.length > 0) body[middle] = (body[middle] ?? 0) ^ 1;
    outgoing.end(body);
  }

  /** Sends a request on as it is: the signature covers the host it was made for. */
  #forward(incoming: IncomingMessage, content: Buffer): Promise<{ response: IncomingMessage; body: Buffer }> {
    return new Promise((resolve, reject) => {
      const outgoing = request(
        {
          host: this.#target.hostname,
          port: this.#target.port,
          method: incoming.method,
          path: incoming.url,
          headers: incoming.headers,
        },
        async (response) => {
          const parts: Buffer[] = [];
          for await (const part of response) parts.push(part as Buffer);
          resolve({ response, body: Buffer.concat(parts) });
        },
      );
      outgoing.on("error", reject);
      outgoing.end(content);
    });
  }
}
