import { Worker } from "node:worker_threads";
import type { BytePath } from "../format/byte-path.ts";
import { ReceivedGarbage } from "../received-garbage.ts";
import type { DirectoryListing } from "../tree/directory-listing.ts";
import type { FileToPack, PackedFile, PackedFrame } from "../tree/pack-files.ts";
import type { FrameToWrite, Owner, WrittenFiles } from "../tree/write-frames.ts";
import type { ThreadAnswer, ThreadRequest } from "./protocol.ts";
import { unpackError } from "./thread-error.ts";

/** Of each thread, in MiB: it holds buffers, not objects, and would grow to 48 for nothing. */
const YOUNG_GENERATION_MB = 6;

/**
 * A few threads that read, hash, pack, unpack, verify and write files, so that the main one can renew leases meanwhile.
 *
 * A thread is `idle`, or `busy` with one job from its request to its last answer; jobs that find none idle wait in
 * order. Threads start with the first job that needs them, stay, and keep no process alive. One that dies fails its job
 * and is replaced by the next job.
 */
export class TreeThreads {
  readonly #limit: number;
  readonly #idle: Worker[] = [];
  readonly #all = new Set<Worker>();
  readonly #waiting: ((worker: Worker | undefined) => void)[] = [];
  readonly #garbage = new ReceivedGarbage();
  #closed = false;

  /** @param limit most threads at once */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get limit(): number {
    return this.#limit;
  }

  /**
   * Packs files (`packFiles`) in a thread.
   *
   * @param onItem given each result in order; a frame's bytes are valid until what it returns is settled. The thread goes on while a promise it returns is pending, but not far.
   */
  async pack(
    rootFd: number,
    files: readonly FileToPack[],
    known: Uint8Array,
    onItem: (item: PackedFile | PackedFrame) => Promise<void> | undefined,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#job({ kind: "pack", rootFd, files, known }, [], signal, async (answer, worker) => {
      if (answer.kind === "packed") return true;
      if (answer.kind !== "batch") throw unexpected(answer);
      const { items, memory } = answer;
      for (const item of items) {
        const given =
          item.kind === "file" ? item : { ...item, packed: new Uint8Array(memory, item.offset, item.length) };
        await onItem(given);
      }
      worker.postMessage({ kind: "credit", memory } satisfies ThreadRequest);
      this.#garbage.add(memory.byteLength);
      return undefined;
    });
  }

  /** Lists directories (`listDirectories`) in a thread. */
  async list(
    rootFd: number,
    paths: readonly BytePath[],
    signal?: AbortSignal,
  ): Promise<readonly (DirectoryListing | undefined)[]> {
    return await this.#job({ kind: "list", rootFd, paths }, [], signal, async (answer) => {
      if (answer.kind !== "listed") throw unexpected(answer);
      return answer.listings;
    });
  }

  /** Writes frames (`writeFrames`) in a thread. @param bytes in shared memory; others are copied. @throws BadFrameError */
  async write(
    rootFd: number,
    bytes: Buffer,
    frames: readonly FrameToWrite[],
    owner: Owner | undefined,
    signal?: AbortSignal,
  ): Promise<WrittenFiles> {
    return await this.#job(
      {
        kind: "write",
        rootFd,
        bytes: new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength),
        frames,
        owner,
      },
      [],
      signal,
      async (answer) => {
        if (answer.kind !== "written") throw unexpected(answer);
        return answer.written;
      },
    );
  }

  /** Ends the threads; jobs that run fail. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const waiting of this.#waiting.splice(0)) waiting(undefined);
    await Promise.all([...this.#all].map((worker) => worker.terminate()));
  }

  /** Runs one job from its request until `onAnswer` gives a result. A job never leaves its thread before it is over there. */
  async #job<T>(
    request: ThreadRequest,
    transferred: ArrayBuffer[],
    signal: AbortSignal | undefined,
    onAnswer: (answer: ThreadAnswer, worker: Worker) => Promise<T | undefined>,
  ): Promise<T> {
    signal?.throwIfAborted();
    const worker = await this.#take();
    const answers = new AnswerQueue(worker);
    const cancel = () => worker.postMessage({ kind: "cancel" } satisfies ThreadRequest);
    signal?.addEventListener("abort", cancel, { once: true });
    let failure: { readonly error: unknown } | undefined;
    try {
      worker.postMessage(request, transferred);
      for (;;) {
        const answer = await answers.next();
        if (answer.kind === "failed") throw unpackError(answer.failure);
        if (failure === undefined) {
          try {
            const result = await onAnswer(answer, worker);
            if (result !== undefined) {
              signal?.throwIfAborted();
              return result;
            }
          } catch (error) {
            failure = { error };
            cancel();
          }
        }
        if (failure !== undefined && answer.kind !== "batch") throw failure.error;
      }
    } finally {
      signal?.removeEventListener("abort", cancel);
      answers.close();
      this.#giveBack(worker);
    }
  }

  async #take(): Promise<Worker> {
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    if (!this.#closed && this.#all.size < this.#limit) return this.#start();
    const given = this.#closed
      ? undefined
      : await new Promise<Worker | undefined>((resolve) => this.#waiting.push(resolve));
    if (given !== undefined) return given;
    if (this.#closed) throw new Error("the store is closed");
    return this.#start();
  }

  #start(): Worker {
    const worker = new Worker(new URL("./tree-thread.ts", import.meta.url), {
      name: "longshore-tree",
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    });
    worker.unref();
    this.#all.add(worker);
    worker.once("exit", () => {
      this.#all.delete(worker);
      const index = this.#idle.indexOf(worker);
      if (index !== -1) this.#idle.splice(index, 1);
    });
    return worker;
  }

  #giveBack(worker: Worker): void {
    const next = this.#waiting.shift();
    if (!this.#all.has(worker)) next?.(undefined);
    else if (next !== undefined) next(worker);
    else this.#idle.push(worker);
  }
}

/** The answers of a thread to one job, one after another; its death is an error. */
class AnswerQueue {
  readonly #worker: Worker;
  readonly #answers: ThreadAnswer[] = [];
  #death: Error | undefined;
  #wake: () => void = () => undefined;

  constructor(worker: Worker) {
    this.#worker = worker;
    // A job that runs keeps the process alive; an idle thread does not.
    worker.ref();
    worker.on("message", this.#onMessage);
    worker.on("error", this.#onError);
    worker.on("exit", this.#onExit);
  }

  async next(): Promise<ThreadAnswer> {
    for (;;) {
      const answer = this.#answers.shift();
      if (answer !== undefined) return answer;
      if (this.#death !== undefined) throw this.#death;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  close(): void {
    this.#worker.off("message", this.#onMessage);
    this.#worker.off("error", this.#onError);
    this.#worker.off("exit", this.#onExit);
    this.#worker.unref();
  }

  readonly #onMessage = (answer: ThreadAnswer): void => {
    this.#answers.push(answer);
    this.#wake();
  };

  readonly #onError = (error: unknown): void => {
    this.#death = new Error("a thread that reads and writes session trees died", { cause: error });
    this.#wake();
  };

  readonly #onExit = (): void => {
    this.#death ??= new Error("a thread that reads and writes session trees ended");
    this.#wake();
  };
}

function unexpected(answer: ThreadAnswer): Error {
  return new Error(`a thread answered ${answer.kind} out of turn`);
}
