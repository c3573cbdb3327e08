import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { chmod, type FileHandle, mkdir, open, rename, rmdir } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { errnoOf } from "@longshore/shared";
import { WorkerIdTakenError } from "./errors.ts";
import { PASSABLE_MODE, workerDirectory, workersDirectory } from "./run-directory.ts";

const SOCKET = "presence.sock";
/** Names a directory by an open descriptor without needing to read it. */
const O_PATH = 0o10000000;

/**
 * A worker's sign of life for the other workers of its host: a listening socket, since the kernel closes
 * it with the process, whatever kills it. A process id says less: it means nothing in another container's
 * namespace and is given to somebody else later.
 *
 * A worker that is stopped (SIGSTOP) counts as alive: the kernel still accepts for it. Directories are
 * made under another name and renamed when the socket listens, so that nobody ever sees one of a live
 * worker without it.
 */
export class WorkerPresence {
  readonly #directory: string;
  readonly #handle: FileHandle;
  readonly #server: Server;

  private constructor(directory: string, handle: FileHandle, server: Server) {
    this.#directory = directory;
    this.#handle = handle;
    this.#server = server;
  }

  /**
   * Announces this process. To be done before anything else of the worker is made in the run directory.
   * @param workerId new for each start of a worker
   * @throws WorkerIdTakenError
   */
  static async announce(runDirectory: string, workerId: string): Promise<WorkerPresence> {
    const directory = workerDirectory(runDirectory, workerId);
    const announcing = join(workersDirectory(runDirectory), `.announcing-${randomBytes(8).toString("hex")}`);
    await mkdir(announcing, { recursive: true, mode: PASSABLE_MODE });
    await chmod(announcing, PASSABLE_MODE);
    const handle = await open(announcing, constants.O_RDONLY | constants.O_DIRECTORY);
    const server = createServer((socket) => socket.destroy());
    try {
      await listen(server, socketPath(handle));
      await moveInto(announcing, directory, async () => WorkerPresence.isAlive(runDirectory, workerId));
    } catch (error) {
      await closeServer(server);
      await handle.close();
      await rmdir(announcing).catch(() => undefined);
      throw errnoOf(error) === "ENOTEMPTY" ? new WorkerIdTakenError(workerId) : error;
    }
    return new WorkerPresence(directory, handle, server);
  }

  /** Whether the worker's process exists, stopped or not. */
  static async isAlive(runDirectory: string, workerId: string): Promise<boolean> {
    return isAnswering(workerDirectory(runDirectory, workerId));
  }

  /** Ends the announcement; the worker's directory goes too unless something is left in it. */
  async close(): Promise<void> {
    await closeServer(this.#server);
    await this.#handle.close();
    for (const emptied of ["slots", "images", "sandboxes", "sockets", "."]) {
      await rmdir(join(this.#directory, emptied)).catch(() => undefined);
    }
  }
}

/** Whether a process listens in a worker's directory, or in one that is just being announced. */
export async function isAnswering(directory: string): Promise<boolean> {
  let handle: FileHandle;
  try {
    handle = await open(directory, O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    const code = errnoOf(error);
    if (code === "ENOENT" || code === "ENOTDIR" || code === "ELOOP") return false;
    throw error;
  }
  try {
    return await answers(socketPath(handle));
  } finally {
    await handle.close();
  }
}

/** By the descriptor, since the path of a socket has room for 107 bytes only. */
function socketPath(directory: FileHandle): string {
  return `/proc/self/fd/${directory.fd}/${SOCKET}`;
}

function answers(path: string): Promise<boolean> {
  const result = Promise.withResolvers<boolean>();
  const socket = connect(path);
  socket.once("connect", () => {
    socket.destroy();
    result.resolve(true);
  });
  socket.on("error", (error) => {
    const code = errnoOf(error);
    if (code === "ECONNREFUSED" || code === "ENOENT" || code === "ENOTSOCK") result.resolve(false);
    // Somebody listens, and so many have asked a stopped process that no more are queued.
    else if (code === "EAGAIN") result.resolve(true);
    // It accepted and closed at once, as it should, before we saw the connection.
    else if (code === "ECONNRESET" || code === "EPIPE") result.resolve(true);
    else result.reject(error);
  });
  return result.promise;
}

async function listen(server: Server, path: string): Promise<void> {
  const result = Promise.withResolvers<void>();
  server.once("error", result.reject);
  server.listen({ path, exclusive: true, writableAll: true }, result.resolve);
  await result.promise;
  server.off("error", result.reject);
  // A failed accept (out of descriptors) must not end the worker; the backlog still tells that it lives.
  server.on("error", () => undefined);
}

/** Takes the place of a dead worker's directory of the same id, which moves aside for the reaper. */
async function moveInto(from: string, to: string, isAlive: () => Promise<boolean>): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    const code = errnoOf(error);
    if ((code !== "ENOTEMPTY" && code !== "EEXIST") || (await isAlive())) throw error;
    await rename(to, `${to}.dead-${randomBytes(4).toString("hex")}`);
    await rename(from, to);
  }
}

async function closeServer(server: Server): Promise<void> {
  const closed = Promise.withResolvers<void>();
  server.close(() => closed.resolve());
  await closed.promise;
}
