import { once } from "node:events";
import {
  createServer,
  type IncomingMessage,
  type RequestOptions,
  type Server,
  type ServerResponse,
  STATUS_CODES,
  request as startRequest,
} from "node:http";
import { isIP, type Socket } from "node:net";
import { type Duplex, pipeline } from "node:stream";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { EgressDefinition } from "@longshore/shared";
import { EGRESS_PORT } from "../helper/helper-paths.ts";
import { CLIENT_HELLO_BYTES_MAX, readClientHello } from "./client-hello.ts";
import { type EgressDecision, type EgressRecord, EgressRefusal } from "./decision.ts";
import { Dialer, type DialTarget } from "./dialer.ts";
import { EgressPolicy, type Target } from "./egress-policy.ts";
import { endToEndHeaders, withCredentials } from "./headers.ts";
import { UpstreamAgent } from "./upstream-agent.ts";

const HEADERS_BYTES_MAX = 64 * 1024;
/** How long a tunnel may take to begin with TLS, and TLS to an upstream to stand, in milliseconds. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
const HOST_SHOWN_MAX = 253;

export interface EgressProxyOptions {
  readonly definition: EgressDefinition;
  /** Told of every decision, for metrics and logs. It must not throw. */
  readonly onDecision: (record: EgressRecord) => void;
  readonly dialer?: Dialer;
  /** Certificates to trust for upstreams of credentials. @default Node.js's own */
  readonly upstreamCa?: string;
}

/**
 * The way out of one activation's sandbox: serves what comes from it, until it is closed with the activation.
 *
 * - `CONNECT host:port` to an allowed host: a tunnel for TLS, whose server name has to be the host; anything else in
 *   it ends it before a byte of it left. But plain HTTP, which some clients send in tunnels too (Node.js's `fetch`), is
 *   read here and asked of that host as below, another `CONNECT` in it refused.
 * - A request for an absolute `http:` URL of an allowed host is made here.
 * - A request for a path below a credential's `as` is made here, over TLS, with the credential put in.
 *
 * Whoever reaches the socket may use it, so the socket is in a directory of that sandbox alone.
 */
export class EgressProxy {
  readonly #definition: EgressDefinition;
  readonly #policy: EgressPolicy;
  readonly #dialer: Dialer;
  readonly #onDecision: (record: EgressRecord) => void;
  readonly #upstreamCa: string | undefined;
  readonly #server: Server;
  readonly #upstreams: UpstreamAgent;
  /** Of both sides. */
  readonly #sockets = new Set<Duplex>();
  /** Tunnels with plain HTTP in them, and where they lead. */
  readonly #tunnels = new WeakMap<Duplex, Target>();
  #connections = 0;
  #requests = 0;
  #bytes = 0;
  #isClosed = false;

  constructor(options: EgressProxyOptions) {
    this.#definition = options.definition;
    this.#policy = new EgressPolicy(options.definition);
    this.#dialer = options.dialer ?? new Dialer();
    this.#onDecision = options.onDecision;
    this.#upstreamCa = options.upstreamCa;
    this.#upstreams = new UpstreamAgent((target) => this.#dialTls(target), options.definition.idle);
    this.#server = createServer({ maxHeaderSize: HEADERS_BYTES_MAX });
    // The sockets' own time-out ends what is idle.
    this.#server.timeout = 0;
    this.#server.keepAliveTimeout = 0;
    this.#server.on("request", (request, response) => void this.#answer(request, response));
    this.#server.on("connect", (request, socket, head) => void this.#tunnel(request, socket, head));
    this.#server.on("clientError", (_error, socket) => {
      this.#record("malformed");
      refuse(socket, 400);
    });
  }

  /** Takes a connection from the sandbox. */
  readonly serve = (socket: Socket): void => {
    const { limits } = this.#definition;
    if (this.#isClosed) {
      socket.destroy();
      return;
    }
    if (this.#connections >= limits.connections) {
      this.#record("limit");
      refuse(socket, 503);
      return;
    }
    this.#connections++;
    socket.once("close", () => {
      this.#connections--;
    });
    this.#watch(socket);
    this.#server.emit("connection", socket);
  };

  /** Variables for the agent's environment by which its programs find the proxy. */
  environment(): Record<string, string> {
    const { allow, credentials } = this.#definition;
    const address = `http://127.0.0.1:${EGRESS_PORT}`;
    const direct = "127.0.0.1,localhost,::1";
    return {
      ...(allow.length === 0
        ? {}
        : {
            ...{ HTTP_PROXY: address, HTTPS_PROXY: address, NO_PROXY: direct },
            // Some programs read only these, and curl no HTTP_PROXY, which a CGI's client could set.
            ...{ http_proxy: address, https_proxy: address, no_proxy: direct },
            NODE_USE_ENV_PROXY: "1",
          }),
      ...Object.fromEntries(
        credentials.flatMap(({ variable, as }) =>
          variable === undefined ? [] : [[variable, `${address}${as}`]],
        ),
      ),
    };
  }

  /** Ends everything that goes through it; what comes later is dropped. */
  close(): void {
    this.#isClosed = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  async #tunnel(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    let target: Target = { host: "", port: 0 };
    let far: Socket | undefined;
    try {
      if (this.#tunnels.has(socket)) throw new EgressRefusal("denied_tunnel", 403, "no CONNECT in a tunnel");
      target = authorityOf(request.url ?? "");
      target = this.#admit(() => this.#policy.requireAllowed(target.host, target.port));
      far = await this.#dial(target);
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      const { kind, bytes } = await tunnelBeginning(socket, head, target.host);
      if (kind === "http") {
        far.destroy();
        this.#tunnels.set(socket, target);
        socket.unshift(bytes);
        this.#server.emit("connection", socket);
        socket.resume();
        return;
      }
      this.#record("allowed", target);
      this.#spend(bytes.length, [socket, far]);
      far.write(bytes);
      this.#count(socket, far);
      join(socket, far);
    } catch (error) {
      far?.destroy();
      const { decision, status } = refusalOf(error);
      this.#record(decision, target);
      // In a tunnel that stands already nobody would understand a status.
      if (decision === "denied_tunnel") socket.destroy();
      else refuse(socket, status);
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let target: Target = { host: "", port: 0 };
    try {
      const url = request.url ?? "";
      const tunnel = this.#tunnels.get(request.socket);
      if (tunnel !== undefined) {
        target = tunnel;
        if (!url.startsWith("/")) throw new EgressRefusal("denied_tunnel", 403, "a tunnel is for one host");
        const { host, port } = this.#admit(() => tunnel);
        await this.#forwardPlain(request, response, { host, port, path: url });
      } else if (url.startsWith("/")) {
        const { route, path } = this.#admit(() => this.#policy.route(url));
        target = route;
        // It would be answered with the headers that it came with.
        if (request.method === "TRACE")
          throw new EgressRefusal("malformed", 405, "no TRACE with a credential");
        const headers = withCredentials(
          endToEndHeaders(request.rawHeaders, new Set(["host"])),
          route.secrets,
        );
        const { host, port, isPrivate } = route;
        const upstream = { agent: this.#upstreams, host, port, isPrivate };
        await this.#forward(request, response, upstream, "credential", {
          ...{ ...target, path, headers, defaultPort: 443 },
        });
      } else {
        const parsed = absoluteUrl(url);
        target = parsed;
        target = this.#admit(() => this.#policy.requireAllowed(parsed.host, parsed.port));
        await this.#forwardPlain(request, response, { ...target, path: parsed.path });
      }
    } catch (error) {
      const { decision, status, message } = refusalOf(error);
      this.#record(decision, target);
      response.writeHead(status, { "content-type": "text/plain", connection: "close" });
      response.end(`${message}\n`);
    }
  }

  /** Counts a request, and decides about it. */
  #admit<T>(decide: () => T): T {
    const { limits } = this.#definition;
    this.#requests++;
    if (this.#requests > limits.requests || this.#bytes > limits.bytes) {
      throw new EgressRefusal("limit", 429, "the activation's limit is used up");
    }
    return decide();
  }

  async #forwardPlain(
    request: IncomingMessage,
    response: ServerResponse,
    to: Target & { readonly path: string },
  ): Promise<void> {
    const far = await this.#dial(to);
    const headers = endToEndHeaders(request.rawHeaders, new Set(["host"]));
    const upstream = { createConnection: () => far };
    await this.#forward(request, response, upstream, "allowed", { ...to, headers, defaultPort: 80 });
  }

  /** Resolves when the request is on its way. @throws EgressRefusal where the upstream can't be had */
  async #forward(
    request: IncomingMessage,
    response: ServerResponse,
    by: RequestOptions,
    decision: EgressDecision,
    to: Target & { readonly path: string; readonly headers: readonly string[]; readonly defaultPort: number },
  ): Promise<void> {
    const host = to.port === to.defaultPort ? to.host : `${to.host}:${to.port}`;
    // A body of unknown length stays one, whatever the method.
    const framing =
      request.headers["transfer-encoding"] === undefined ? [] : ["transfer-encoding", "chunked"];
    const upstream = startRequest({
      ...by,
      method: request.method ?? "GET",
      path: to.path,
      headers: ["host", host, ...to.headers, ...framing],
      setHost: false,
    });
    const [far] = (await once(upstream, "socket")) as [Socket];
    this.#record(decision, to);
    this.#count(request.socket, far);
    const fail = () => {
      upstream.destroy();
      if (response.headersSent || response.destroyed) response.destroy();
      else {
        response.writeHead(502, { "content-type": "text/plain", connection: "close" });
        response.end("the host ended the connection\n");
      }
    };
    upstream.on("error", fail);
    upstream.once("response", (answer) => {
      response.writeHead(answer.statusCode ?? 502, endToEndHeaders(answer.rawHeaders));
      response.flushHeaders();
      pipeline(answer, response, (error) => {
        if (error) upstream.destroy();
      });
    });
    // Nothing to do where the answer was whole: the connection may serve another request by then.
    response.once("close", () => upstream.destroy());
    // An upstream that answers before it has read all is not at fault: its answer goes on.
    pipeline(request, upstream, () => undefined);
  }

  async #dial(target: DialTarget): Promise<Socket> {
    const socket = await this.#dialer.dial(target);
    if (this.#isClosed) {
      socket.destroy();
      throw new EgressRefusal("unreachable", 502, "the activation is over");
    }
    this.#watch(socket);
    return socket;
  }

  async #dialTls(target: DialTarget): Promise<TLSSocket> {
    const socket = await this.#dial(target);
    const secured = Promise.withResolvers<TLSSocket>();
    const fail = () => {
      socket.destroy();
      secured.reject(new EgressRefusal("unreachable", 502, "no TLS with the host"));
    };
    const timer = setTimeout(fail, HANDSHAKE_TIMEOUT_MS);
    const tls = connectTls({
      socket,
      host: target.host,
      // An address is no server name; the certificate is checked for it all the same.
      ...(isIP(target.host) === 0 ? { servername: target.host } : {}),
      ALPNProtocols: ["http/1.1"],
      ...(this.#upstreamCa === undefined ? {} : { ca: this.#upstreamCa }),
    });
    tls.once("secureConnect", () => secured.resolve(tls));
    tls.on("error", fail);
    socket.once("close", fail);
    return secured.promise.finally(() => clearTimeout(timer));
  }

  /** Ends it when it is idle, and with the activation. */
  #watch(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    socket.on("error", () => undefined);
    socket.setTimeout(this.#definition.idle, () => socket.destroy());
  }

  #count(near: Duplex, far: Duplex): void {
    const both = [near, far];
    // A connection that is kept alive serves one request after another.
    for (const side of both) {
      if (this.#counted.has(side)) continue;
      this.#counted.add(side);
      side.on("data", (chunk: Buffer) => this.#spend(chunk.length, both));
    }
  }

  readonly #counted = new WeakSet<Duplex>();

  #spend(bytes: number, sockets: readonly Duplex[]): void {
    this.#bytes += bytes;
    if (this.#bytes <= this.#definition.limits.bytes) return;
    this.#record("limit");
    for (const socket of sockets) socket.destroy();
  }

  #record(decision: EgressDecision, { host, port }: Target = { host: "", port: 0 }): void {
    this.#onDecision({ decision, host: host.slice(0, HOST_SHOWN_MAX).toWellFormed(), port });
  }
}

function refusalOf(error: unknown): EgressRefusal {
  return error instanceof EgressRefusal ? error : new EgressRefusal("unreachable", 502, "the request failed");
}

/** Answers on a connection that has no response object. */
function refuse(socket: Duplex, status: number): void {
  if (!socket.writable) socket.destroy();
  else {
    socket.end(
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`,
    );
    socket.resume();
  }
}

function authorityOf(text: string): Target {
  const [, host, digits] = /^([A-Za-z0-9._-]{1,254}):(\d{1,5})$/.exec(text) ?? [];
  if (host === undefined) throw new EgressRefusal("malformed", 400, "CONNECT takes host:port");
  return { host, port: Number(digits) };
}

function absoluteUrl(text: string): Target & { readonly path: string } {
  const url = URL.parse(text);
  if (url === null || url.protocol !== "http:" || url.username !== "" || url.password !== "") {
    throw new EgressRefusal("malformed", 400, "the proxy takes http: URLs, and CONNECT for https:");
  }
  return { host: url.hostname, port: Number(url.port || 80), path: `${url.pathname}${url.search}` };
}

interface TunnelBeginning {
  readonly kind: "tls" | "http";
  readonly bytes: Buffer;
}

/** The first bytes of a tunnel, once they are known to be TLS for the host or HTTP. @throws EgressRefusal */
async function tunnelBeginning(socket: Duplex, head: Buffer, host: string): Promise<TunnelBeginning> {
  const refusal = () => new EgressRefusal("denied_tunnel", 403, "the tunnel is not TLS for the host");
  const result = Promise.withResolvers<TunnelBeginning>();
  let bytes = Buffer.alloc(0);
  const take = (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk]);
    const hello = readClientHello(bytes);
    if (hello.kind === "tls" && hello.serverName?.toLowerCase() === host)
      result.resolve({ kind: "tls", bytes });
    else if (hello.kind === "other" && /^[A-Z]/.test(bytes.toString("latin1", 0, 1))) {
      result.resolve({ kind: "http", bytes });
    } else if (hello.kind !== "incomplete" || bytes.length > 2 * CLIENT_HELLO_BYTES_MAX)
      result.reject(refusal());
  };
  const end = () => result.reject(refusal());
  const timer = setTimeout(end, HANDSHAKE_TIMEOUT_MS);
  socket.on("data", take);
  socket.once("end", end);
  socket.once("close", end);
  if (head.length > 0) take(head);
  try {
    return await result.promise;
  } finally {
    clearTimeout(timer);
    socket.pause();
    socket.off("data", take);
    socket.off("end", end);
    socket.off("close", end);
  }
}

/** Carries bytes both ways; each side's end goes on by itself, and what breaks one breaks the other. */
function join(near: Duplex, far: Duplex): void {
  for (const [from, to] of [
    [near, far],
    [far, near],
  ] as const) {
    pipeline(from, to, (error) => {
      if (error) from.destroy();
    });
  }
}
