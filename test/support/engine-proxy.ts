import { once } from "node:events";
import { connect, createServer, type NetConnectOpts, type Server, type Socket } from "node:net";

/** Stands between a worker and its container engine, and can be gone for a while, as an engine can. */
export class EngineProxy implements AsyncDisposable {
  readonly #engine: NetConnectOpts;
  readonly #path: string;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;

  private constructor(engine: NetConnectOpts, path: string) {
    this.#engine = engine;
    this.#path = path;
  }

  /** Listens on a UNIX socket at `path`, for the engine that a `DOCKER_HOST` names. */
  static async start(dockerHost: string, path: string): Promise<EngineProxy> {
    const { protocol, pathname, hostname, port } = new URL(dockerHost);
    const proxy = new EngineProxy(
      protocol === "unix:" ? { path: pathname } : { host: hostname, port: Number(port) },
      path,
    );
    await proxy.comeBack();
    return proxy;
  }

  /** As `DOCKER_HOST` has it. */
  get url(): string {
    return `unix://${this.#path}`;
  }

  /** Cuts every connection, and refuses new ones. */
  async vanish(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    for (const socket of this.#sockets) socket.destroy();
    server.close();
    await once(server, "close");
  }

  async comeBack(): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (client) => {
      const engine = connect({ ...this.#engine, allowHalfOpen: true });
      for (const [source, sink] of [
        [client, engine],
        [engine, client],
      ] as const) {
        this.#sockets.add(source);
        source.pipe(sink);
        source.on("close", () => {
          this.#sockets.delete(source);
          sink.destroy();
        });
        // The other side sees the end of the connection; that is all a proxy can say.
        source.on("error", () => sink.destroy());
      }
    });
    server.listen(this.#path);
    await once(server, "listening");
    this.#server = server;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.vanish();
  }
}
