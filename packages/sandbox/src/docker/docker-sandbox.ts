import type { Socket } from "node:net";
import { type Readable, Writable } from "node:stream";
import { settlesWithin } from "../deadline.ts";
import { EngineCallError, SandboxStuckError } from "../errors.ts";
import { exitOfStatus } from "../exit-status.ts";
import type { Sandbox, SandboxExit } from "../sandbox.ts";
import { StderrTail } from "../stderr-tail.ts";
import { AttachDemultiplexer } from "./demultiplexer.ts";
import type { Engine } from "./engine.ts";
import { removeContainer } from "./remove-container.ts";

const NOT_FOUND = 404;
const CONFLICT = 409;
/** How long the exit may take to be told after SIGKILL. */
const KILL_TIMEOUT_MS = 15_000;

/** A container that was started, with its attach stream. */
export class DockerSandbox implements Sandbox {
  readonly id: string;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly exited: Promise<SandboxExit>;
  readonly #engine: Engine;
  readonly #socket: Socket;
  readonly #stderr: StderrTail;
  readonly #closeSockets: () => Promise<void>;
  readonly #waiting = new AbortController();
  #hasExited = false;
  #wasKilled = false;
  #mayBePaused = false;
  #destruction: Promise<void> | undefined;

  /**
   * Takes over a container whose attach stream is open and which is about to be, or was, started.
   * @param closeSockets removes its sockets when it is gone
   */
  constructor(engine: Engine, id: string, stream: AttachedStream, closeSockets: () => Promise<void>) {
    this.#engine = engine;
    this.#closeSockets = closeSockets;
    this.id = id;
    this.#socket = stream.socket;
    this.#stderr = stream.stderr;
    this.stdin = stream.stdin;
    this.stdout = stream.stdout;
    this.exited = this.#watch().finally(() => {
      this.#hasExited = true;
    });
    this.exited.catch(() => undefined);
  }

  stderrTail(): string {
    return this.#stderr.text();
  }

  async pause(): Promise<void> {
    // Also when the call fails: it may have been done nevertheless.
    this.#mayBePaused = true;
    await this.#unlessEnded(() => this.#engine.pause(this.id), /already paused/);
  }

  async resume(): Promise<void> {
    await this.#unlessEnded(() => this.#engine.unpause(this.id), /not paused/);
    this.#mayBePaused = false;
  }

  async stop(graceMs: number): Promise<void> {
    if (this.#hasExited) return;
    await this.resume();
    await this.#unlessEnded(() => this.#engine.kill(this.id, "SIGTERM"));
    if (!(await settlesWithin(this.exited, graceMs))) {
      this.#wasKilled = true;
      await this.#unlessEnded(() => this.#engine.kill(this.id, "SIGKILL"));
      if (!(await settlesWithin(this.exited, KILL_TIMEOUT_MS))) {
        throw new SandboxStuckError(this.id, "the engine tells no exit after SIGKILL");
      }
    }
  }

  destroy(): Promise<void> {
    this.#destruction ??= this.#destroy().catch((error: unknown) => {
      this.#destruction = undefined;
      throw error;
    });
    return this.#destruction;
  }

  async #destroy(): Promise<void> {
    // First of all: with an unread attach stream the engine hangs in kill, inspect and remove.
    this.#socket.destroy();
    this.#wasKilled ||= !this.#hasExited;
    await removeContainer(this.#engine, this.id, this.#mayBePaused);
    // The wait ends with the container; an engine that forgets to tell is not waited for.
    await settlesWithin(this.exited, 1_000);
    this.#waiting.abort();
    await settlesWithin(this.exited, 1_000);
    await this.#closeSockets();
  }

  async #watch(): Promise<SandboxExit> {
    const status = await this.#engine.waitForExit(this.id, this.#waiting.signal);
    const memoryWasShort = this.#wasKilled ? false : await this.#wasOutOfMemory(status);
    const wasKilled = this.#wasKilled || memoryWasShort === undefined;
    // Podman tells 0 of a container that is removed by force.
    return exitOfStatus(wasKilled && status === 0 ? KILLED_STATUS : status, !wasKilled && memoryWasShort);
  }

  /**
   * The container's own mark lacks where the engine heard of its end before it heard of the memory: it
   * tells that by an event only, and then soon after the end. Undefined where the container is gone: somebody removed it.
   */
  async #wasOutOfMemory(status: number): Promise<boolean | undefined> {
    try {
      const { OOMKilled, StartedAt, FinishedAt } = (await this.#engine.inspect(this.id)).State;
      if (OOMKilled || status !== KILLED_STATUS) return OOMKilled;
      const until = secondsOf(FinishedAt) + OOM_EVENT_LATE_SECONDS;
      return await this.#engine.wasOutOfMemory(this.id, secondsOf(StartedAt), until);
    } catch (error) {
      if (isStatus(error, NOT_FOUND)) return undefined;
      throw error;
    }
  }

  /** Runs an engine call whose failure is nothing to tell when the container has ended or is so already. */
  async #unlessEnded(call: () => Promise<void>, alreadySo?: RegExp): Promise<void> {
    if (this.#hasExited || this.#destruction) return;
    try {
      await call();
    } catch (error) {
      if (isStatus(error, NOT_FOUND)) return;
      if (!(error instanceof EngineCallError)) throw error;
      if (alreadySo?.test(error.message) || error.status === CONFLICT) return;
      // Docker tells a container that ended in this moment as a failure (500) of its OCI runtime.
      if (!(await this.#isRunning())) return;
      throw error;
    }
  }

  async #isRunning(): Promise<boolean> {
    try {
      return (await this.#engine.inspect(this.id)).State.Running;
    } catch (error) {
      if (isStatus(error, NOT_FOUND)) return false;
      throw error;
    }
  }
}

/** As Docker tells SIGKILL, by which the kernel ends what needs too much memory. */
const KILLED_STATUS = 128 + 9;
/** How long after a container's end the engine may hear that its memory ran out. */
const OOM_EVENT_LATE_SECONDS = 3;

/** @param time as the engine tells moments, RFC 3339 */
const secondsOf = (time: string): number => Date.parse(time) / 1_000;

function isStatus(error: unknown, status: number): boolean {
  return error instanceof EngineCallError && error.status === status;
}

/** The three streams of a container, taken apart. */
export interface AttachedStream {
  readonly socket: Socket;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: StderrTail;
}

/** Takes apart an attach stream. @param head bytes of it that came with the upgrade's answer */
export function takeStreams(socket: Socket, head: Buffer): AttachedStream {
  const stderr = new StderrTail();
  const demultiplexer = new AttachDemultiplexer((chunk) => stderr.append(chunk));
  if (head.length > 0) socket.unshift(head);
  socket.pipe(demultiplexer);
  demultiplexer.on("error", () => socket.destroy());
  const stdin = new Writable({
    write(chunk: Buffer, _encoding, done) {
      socket.write(chunk, done);
    },
    final(done) {
      socket.end(done);
    },
  });
  // An agent that went away while it was written to is told by `exited`; here it must not become an
  // uncaught exception of the worker.
  stdin.on("error", () => undefined);
  demultiplexer.stdout.on("error", () => undefined);
  socket.on("error", (error) => stdin.destroy(error));
  socket.on("close", () => {
    stdin.destroy();
    if (!demultiplexer.writableEnded) demultiplexer.end();
  });
  return { socket, stdin, stdout: demultiplexer.stdout, stderr };
}
