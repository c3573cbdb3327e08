import type { Server, Socket } from "node:net";
import { getSystemErrorName } from "node:util";
import { CommandFailedError, SandboxStartError } from "../errors.ts";

/** "failed " and a number; the helper never writes more. */
const NEWS_BYTES_MAX = 32;

/**
 * The worker's end of a sandbox's lifeline: as long as it is open the sandbox may live. The kernel closes it
 * with this process, whatever kills it.
 *
 * Of all connections the first counts, which is the helper's: it connects before it starts the agent's
 * program, which could connect too. The others are dropped, and no more are taken.
 */
export class Lifeline {
  readonly #server: Server;
  readonly #command: readonly string[];
  readonly #news = Promise.withResolvers<void>();
  #socket: Socket | undefined;

  /** @param command for the error: what the helper was told to run; empty for the image's own */
  constructor(server: Server, command: readonly string[]) {
    this.#server = server;
    this.#command = command;
    this.#news.promise.catch(() => undefined);
    server.on("connection", (socket) => this.#take(socket));
  }

  /**
   * Resolves when the agent's program runs. It stays pending when the sandbox ends before that.
   * @throws CommandFailedError when the program is not there or can't be run
   */
  get programRuns(): Promise<void> {
    return this.#news.promise;
  }

  /** Lets go of the sandbox: what still runs in it dies. */
  close(): void {
    this.#server.close();
    this.#socket?.destroy();
  }

  #take(socket: Socket): void {
    socket.on("error", () => undefined);
    if (this.#socket !== undefined) {
      socket.destroy();
      return;
    }
    this.#socket = socket;
    this.#server.close();
    let text = "";
    socket.setEncoding("latin1");
    socket.on("data", (part: string) => {
      text += part;
      if (text.endsWith("\n")) this.#read(text.trimEnd());
      else if (text.length > NEWS_BYTES_MAX) this.#read(text);
    });
  }

  #read(news: string): void {
    const errno = /^failed (\d{1,5})$/.exec(news)?.[1];
    if (news === "started") this.#news.resolve();
    else if (errno === undefined) this.#news.reject(new SandboxStartError("its helper makes no sense"));
    else this.#news.reject(new CommandFailedError(this.#command, getSystemErrorName(-Number(errno))));
  }
}
