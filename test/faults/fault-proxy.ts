import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";
import { type SigningKey, signRequest } from "./sign-request.ts";

/**
 * What goes wrong with a request.
 *
 * - `slow-down`: 503 with S3's `SlowDown`, nothing reaches the server
 * - `conflict`: 409, nothing reaches the server
 * - `reset`: the connection is cut, nothing reaches the server
 * - `reset-midway`: the connection is cut when a part of the request has been read, nothing reaches the server
 * - `lost-answer`: the server does it, the connection is cut before its answer
 * - `hang`: neither reaches the server nor is answered
 * - `hang-after`: the server does it, and the answer never comes
 * - `drip`: the server does it, and all of its answer but the last byte comes, a byte now and then
 * - `repeat`: the request reaches the server twice, and the second answer is given
 * - `truncate`: the answer's body ends halfway
 * - `corrupt`: one bit of the answer's body is another
 * - `skewed`: 403 `RequestTimeTooSkewed`, nothing reaches the server
 * - `denied`: 403 `AccessDenied`
 * - `expired`: 400 `ExpiredToken`, as Amazon's servers say it
 */
export type Fault = (typeof faults)[number];
export const faults = [
  "slow-down",
  "conflict",
  "reset",
  "reset-midway",
  "lost-answer",
  "hang",
  "hang-after",
  "drip",
  "repeat",
  "truncate",
  "corrupt",
  "skewed",
  "denied",
  "expired",
] as const;

const ANSWERS: Partial<Record<Fault, readonly [number, string]>> = {
  "slow-down": [503, "SlowDown"],
  conflict: [409, "ConditionalRequestConflict"],
  skewed: [403, "RequestTimeTooSkewed"],
  denied: [403, "AccessDenied"],
  expired: [400, "ExpiredToken"],
};

/** Between two bytes of a dripping answer, in ms. */
const DRIP_MS = 20;

/** A request as it came over the wire. */
export interface SeenRequest {
  readonly method: string;
  /** Path and query, not decoded. */
  readonly target: string;
  readonly headers: IncomingHttpHeaders;
  readonly trailers: NodeJS.Dict<string>;
  readonly bodyBytes: number;
}

/** Decides what goes wrong with a request; undefined: nothing. @param path decoded, without the query */
export type FaultRule = (method: string, path: string, seen: SeenRequest) => Fault | undefined;

/** Where a request is to go instead. */
export interface Rewritten {
  readonly target: string;
  readonly headers: Record<string, string>;
}

export interface FaultProxyOptions {
  /** Speaks TLS, with this key and certificate in PEM. */
  readonly tls?: { readonly key: string; readonly cert: string };
  /** With what requests are signed that were rewritten. */
  readonly signingKey?: SigningKey;
}

/** A proxy before a real S3 server that makes faults on the wire. */
export class FaultProxy implements AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** Faults made so far. */
  faults = 0;
  /** All requests that came, in order. */
  readonly seen: SeenRequest[] = [];
  /** Nothing goes wrong before a test says so. */
  rule: FaultRule = () => undefined;
  /** Called before a request goes on, for whatever else has to happen in between. */
  onRequest: (method: string, path: string) => Promise<void> | undefined = () => undefined;
  /** Called when a request hangs: what the fault says of the server has taken place, and nothing more will. */
  onHang: () => void = () => undefined;
  /** Changes a request before it goes on, which is then signed anew; undefined: it goes on as it is. */
  rewrite: (seen: SeenRequest) => Rewritten | undefined = () => undefined;
  /** Answers in the server's place; undefined: the server answers. */
  answer: (seen: SeenRequest) => { readonly status: number; readonly body: string } | undefined = () =>
    undefined;
  /** Hours by which the server's clock seems to be off. */
  clockOffHours = 0;
  readonly #server: Server;
  readonly #target: URL;
  readonly #signingKey: SigningKey | undefined;

  private constructor(server: Server, target: URL, options: FaultProxyOptions) {
    this.#server = server;
    this.#target = target;
    this.#signingKey = options.signingKey;
    this.port = (server.address() as AddressInfo).port;
    this.url = `${options.tls === undefined ? "http" : "https"}://127.0.0.1:${this.port}`;
  }

  static async start(target: string, options: FaultProxyOptions = {}): Promise<FaultProxy> {
    const server = options.tls === undefined ? createServer() : createSecureServer(options.tls);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const proxy = new FaultProxy(server, new URL(target), options);
    server.on("request", (incoming, outgoing) => {
      // A client that is gone is what many a fault looks like from here.
      proxy.#handle(incoming, outgoing).catch(() => incoming.socket.destroy());
    });
    return proxy;
  }

  /** Requests that came. */
  get requests(): number {
    return this.seen.length;
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
    const method = incoming.method ?? "";
    const target = incoming.url ?? "/";
    const path = decodeURIComponent(new URL(target, this.url).pathname);
    const early: SeenRequest = {
      method,
      target,
      headers: incoming.headers,
      trailers: {},
      bodyBytes: 0,
    };
    await this.onRequest(method, path);
    const fault = this.rule(method, path, early);
    if (fault !== undefined) this.faults++;
    if (fault === "reset-midway") {
      this.seen.push(early);
      if (Number(incoming.headers["content-length"] ?? 0) > 0) {
        await new Promise((resolve) => incoming.once("data", resolve));
      }
      return void incoming.socket.destroy();
    }
    const parts: Buffer[] = [];
    for await (const part of incoming) parts.push(part as Buffer);
    const content = Buffer.concat(parts);
    const seen = { ...early, trailers: incoming.trailers, bodyBytes: content.length };
    this.seen.push(seen);
    if (fault === "hang") return this.onHang();
    if (fault === "reset") return void incoming.socket.destroy();
    const [status, code] = (fault === undefined ? undefined : ANSWERS[fault]) ?? [];
    const instead =
      status === undefined
        ? this.answer(seen)
        : {
            status,
            body: `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`,
          };
    if (instead !== undefined) {
      const headers = { "content-type": "application/xml", date: this.#date(new Date().toUTCString()) };
      outgoing.writeHead(instead.status, headers);
      return void outgoing.end(instead.body);
    }
    let { response, body } = await this.#forward(seen, content);
    if (fault === "repeat") ({ response, body } = await this.#forward(seen, content));
    if (fault === "hang-after") return this.onHang();
    if (fault === "lost-answer") return void incoming.socket.destroy();
    const headers = { ...response.headers, date: this.#date(response.headers.date ?? "") };
    outgoing.writeHead(response.statusCode ?? 502, headers);
    const middle = Math.floor(body.length / 2);
    if (fault === "truncate") {
      outgoing.write(body.subarray(0, middle), () => incoming.socket.destroy());
    } else if (fault === "drip") {
      drip(outgoing, body);
    } else {
      if (fault === "corrupt" && body.length > 0) body[middle] = (body[middle] ?? 0) ^ 1;
      outgoing.end(body);
    }
  }

  #date(date: string): string {
    return new Date(Date.parse(date) + this.clockOffHours * 3_600_000).toUTCString();
  }

  /** Sends a request on; as it is, if it may be: the signature covers the host it was made for. */
  #forward(seen: SeenRequest, content: Buffer): Promise<{ response: IncomingMessage; body: Buffer }> {
    const rewritten = this.rewrite(seen);
    const { target, headers }: { target: string; headers: IncomingHttpHeaders } = rewritten ?? seen;
    if (rewritten !== undefined && this.#signingKey !== undefined) {
      rewritten.headers.host = this.#target.host;
      signRequest(this.#signingKey, seen.method, rewritten.target, rewritten.headers);
    }
    return new Promise((resolve, reject) => {
      const { hostname: host, port } = this.#target;
      const options = { host, port, method: seen.method, path: target, headers };
      const outgoing = request(options, async (response) => {
        const parts: Buffer[] = [];
        for await (const part of response) parts.push(part as Buffer);
        resolve({ response, body: Buffer.concat(parts) });
      });
      outgoing.on("error", reject);
      outgoing.end(content);
    });
  }
}

/** Gives a body byte by byte, for as long as somebody is there to take it. */
function drip(outgoing: ServerResponse, body: Buffer): void {
  let at = 0;
  outgoing.flushHeaders();
  const timer = setInterval(() => {
    if (at < body.length - 1) outgoing.write(body.subarray(at, ++at));
  }, DRIP_MS);
  outgoing.once("close", () => clearInterval(timer));
}
