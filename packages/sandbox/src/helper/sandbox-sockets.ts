import { constants } from "node:fs";
import { chmod, chown, type FileHandle, mkdir, open, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { PASSABLE_MODE, socketsDirectory } from "../run-directory.ts";
import type { SandboxSpec } from "../sandbox.ts";
import { EGRESS_SOCKET, LIFELINE_SOCKET, TOOLS_SOCKET } from "./helper-paths.ts";
import { Lifeline } from "./lifeline.ts";

/** The worker may list it, the sandbox's group (which is its user's alone) may pass, nobody else. */
const DIRECTORY_MODE = 0o710;

/** Connections of a sandbox at once to each handler; more are closed at once. */
const CONNECTIONS_MAX = 256;

/**
 * The sockets of one sandbox, in a directory of its own that is mounted into it: the lifeline, and one for
 * each handler that the specification names. They end with the sandbox.
 */
export class SandboxSockets {
  readonly directory: string;
  readonly lifeline: Lifeline;
  /**
   * Open as long as they are: a server that closes removes its socket by the path that it listened at, and the descriptor's
   * number in it would be another directory's by then, a session's perhaps.
   */
  readonly #handle: FileHandle;
  readonly #servers: readonly Server[];
  readonly #connections: Set<Socket>;

  private constructor(
    directory: string,
    handle: FileHandle,
    lifeline: Lifeline,
    servers: readonly Server[],
    connections: Set<Socket>,
  ) {
    this.directory = directory;
    this.#handle = handle;
    this.lifeline = lifeline;
    this.#servers = servers;
    this.#connections = connections;
  }

  static async open(runDirectory: string, spec: SandboxSpec): Promise<SandboxSockets> {
    const parent = socketsDirectory(runDirectory, spec.labels.worker);
    await mkdir(parent, { recursive: true, mode: PASSABLE_MODE });
    await chmod(parent, PASSABLE_MODE);
    const directory = join(parent, spec.labels.nonce);
    await mkdir(directory, { mode: 0o700 });
    const servers: Server[] = [];
    const connections = new Set<Socket>();
    const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      await chown(directory, process.getuid?.() ?? 0, spec.user.gid);
      await chmod(directory, DIRECTORY_MODE);
      const lifelineServer = createServer();
      servers.push(lifelineServer);
      const lifeline = new Lifeline(lifelineServer, spec.command ?? []);
      await listen(lifelineServer, handle, LIFELINE_SOCKET);
      for (const [name, serve] of [
        [EGRESS_SOCKET, spec.egress],
        [TOOLS_SOCKET, spec.tools],
      ] as const) {
        if (serve === undefined) continue;
        const server = createServer({ allowHalfOpen: true }, (socket) => {
          connections.add(socket);
          socket.once("close", () => connections.delete(socket));
          // A connection that breaks is its handler's to see, by its end.
          socket.on("error", () => undefined);
          serve(socket);
        });
        server.maxConnections = CONNECTIONS_MAX;
        servers.push(server);
        await listen(server, handle, name);
      }
      return new SandboxSockets(directory, handle, lifeline, servers, connections);
    } catch (error) {
      for (const server of servers) server.close();
      await handle.close();
      // biome-ignore lint/plugin: the sandbox has it read-only
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  /** Ends every connection and removes the directory. */
  async close(): Promise<void> {
    this.lifeline.close();
    for (const server of this.#servers) server.close();
    for (const socket of this.#connections) socket.destroy();
    await this.#handle.close();
    // biome-ignore lint/plugin: the sandbox has it read-only
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** By the descriptor, since the path of a socket has room for 107 bytes only. */
async function listen(server: Server, directory: FileHandle, name: string): Promise<void> {
  const result = Promise.withResolvers<void>();
  server.once("error", result.reject);
  const path = `/proc/self/fd/${directory.fd}/${name}`;
  server.listen({ path, exclusive: true, writableAll: true }, result.resolve);
  await result.promise;
  server.off("error", result.reject);
  // A failed accept (out of descriptors) must not end the worker.
  server.on("error", () => undefined);
  server.unref();
}
