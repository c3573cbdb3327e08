import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** What passes a proxy in one direction of one connection. */
interface Traffic {
  readonly connection: number;
  readonly from: "client" | "server";
  readonly bytes: Buffer;
}

/**
 * Stops the traffic of a connection at a chosen point: the chunk that matches and everything after it, in
 * both directions, goes no further until `release`.
 */
export interface Hold {
  /** Resolves when the point was reached. */
  readonly reached: Promise<void>;
  release(): void;
}

/**
 * A proxy of bytes between a process and its Redis or object store, that can hold a connection at a
 * request or an answer: so that a test can kill the process at exactly that point.
 */
export class HoldingProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #holds: {
    readonly matches: (traffic: Traffic) => boolean;
    readonly onReached: (traffic: Traffic) => void;
  }[] = [];
  readonly #held = new Map<number, (() => void)[]>();
  #connections = 0;

  private constructor(target: { readonly host: string; readonly port: number }) {
    this.#server = createServer((client) => this.#accept(client, connect(target.port, target.host)));
  }

  static async start(targetUrl: string): Promise<HoldingProxy> {
    const { hostname, port } = new URL(targetUrl);
    const proxy = new HoldingProxy({ host: hostname, port: Number(port) });
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** The same URL, by way of this proxy. */
  url(targetUrl: string): string {
    const url = new URL(targetUrl);
    url.hostname = "127.0.0.1";
    url.port = String(this.port);
    return url.href.replace(/\/$/, "");
  }

  /** Holds the connection on which the first chunk comes that matches; that chunk goes no further. */
  hold(matches: (traffic: Traffic) => boolean): Hold {
    const reached = Promise.withResolvers<void>();
    let connection: number | undefined;
    const entry = {
      matches,
      onReached: (traffic: Traffic) => {
        connection = traffic.connection;
        this.#holds = this.#holds.filter((other) => other !== entry);
        this.#held.set(traffic.connection, []);
        reached.resolve();
      },
    };
    this.#holds.push(entry);
    return {
      reached: reached.promise,
      release: () => {
        if (connection === undefined) this.#holds = this.#holds.filter((other) => other !== entry);
        else {
          const waiting = this.#held.get(connection) ?? [];
          this.#held.delete(connection);
          for (const pass of waiting) pass();
        }
      },
    };
  }

  /** From now on nothing passes on the connections that there are; they are not closed. New ones pass all. */
  silence(): void {
    for (let connection = 0; connection < this.#connections; connection++)
      if (!this.#held.has(connection)) this.#held.set(connection, []);
  }

  /** Holds the answer to the first request that matches; the request itself passes. */
  holdAnswer(matches: (request: Traffic) => boolean): Hold {
    let asked: number | undefined;
    return this.hold((traffic) => {
      if (asked === undefined) {
        if (traffic.from === "client" && matches(traffic)) asked = traffic.connection;
        return false;
      }
      return traffic.from === "server" && traffic.connection === asked;
    });
  }

  #accept(client: Socket, server: Socket): void {
    const connection = this.#connections++;
    const relay = (from: Traffic["from"], source: Socket, sink: Socket) => {
      this.#sockets.add(source);
      source.on("data", (bytes) => {
        const traffic = { connection, from, bytes };
        if (!this.#held.has(connection))
          this.#holds.find(({ matches }) => matches(traffic))?.onReached(traffic);
        const held = this.#held.get(connection);
        if (held) held.push(() => sink.write(bytes));
        else sink.write(bytes);
      });
      source.on("close", () => {
        this.#sockets.delete(source);
        sink.destroy();
      });
      // The other side sees the end of the connection; that is all a proxy can say.
      source.on("error", () => sink.destroy());
    };
    relay("client", client, server);
    relay("server", server, client);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }
}
