import { Agent, type ClientRequestArgs } from "node:http";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import type { DialTarget } from "./dialer.ts";

type UpstreamOptions = ClientRequestArgs & { readonly isPrivate?: boolean };

/** Connections without a request that are kept for each upstream. */
const IDLE_CONNECTIONS = 4;

/**
 * Connections to the upstreams of credentials that outlive a request: one that follows soon, as those of an agent that
 * uses tools do, spares the name's resolution and the handshakes, most of what the proxy adds. What an upstream ended meanwhile
 * is not used again. The pool is an activation's own, as its proxy is.
 */
export class UpstreamAgent extends Agent {
  readonly #dial: (target: DialTarget) => Promise<TLSSocket>;

  /** @param idleMs when a connection that carries nothing is ended */
  constructor(dial: (target: DialTarget) => Promise<TLSSocket>, idleMs: number) {
    super({ keepAlive: true, timeout: idleMs, maxFreeSockets: IDLE_CONNECTIONS, scheduling: "lifo" });
    this.#dial = dial;
  }

  /** What may lead inside for one upstream may not for another one of the same address. */
  override getName(options?: UpstreamOptions): string {
    return `${super.getName(options)}:${options?.isPrivate === true}`;
  }

  override createConnection(
    options: UpstreamOptions,
    callback: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    const { host, port, isPrivate = false } = options;
    this.#dial({ host: host ?? "", port: Number(port), isPrivate }).then(
      (socket) => callback(null, socket),
      // The callback's own type has no place for a failure without a connection.
      (error: Error) => callback(error, undefined as unknown as Duplex),
    );
  }
}
