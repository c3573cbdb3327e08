import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { PassThrough, type Readable, type Writable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { settlesWithin } from "../deadline.ts";
import { SandboxStartError, SandboxStuckError } from "../errors.ts";
import { exitOfStatus } from "../exit-status.ts";
import type { Sandbox, SandboxExit } from "../sandbox.ts";
import { StderrTail } from "../stderr-tail.ts";
import type { BwrapStatus } from "./bwrap-status.ts";
import type { Launched } from "./launch.ts";
import type { ProcessGroup } from "./process-group.ts";

const FREEZE_TIMEOUT_MS = 10_000;
const KILL_TIMEOUT_MS = 10_000;
/** How long bubblewrap's watcher may take to tell how the process inside ended, once that is killed. */
const REPORT_TIMEOUT_MS = 500;
const SIGKILL_STATUS = 137;

export interface BwrapSandboxParts {
  readonly id: string;
  readonly launched: Launched;
  readonly status: BwrapStatus;
  readonly processes: ProcessGroup;
  /** Removes the cgroup and the record, when every process is gone. */
  readonly forget: () => Promise<void>;
}

/** A running bubblewrap. */
export class BwrapSandbox implements Sandbox {
  readonly id: string;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly exited: Promise<SandboxExit>;
  readonly #child: ChildProcess;
  readonly #status: BwrapStatus;
  readonly #processes: ProcessGroup;
  readonly #forget: () => Promise<void>;
  readonly #stderr = new StderrTail();
  readonly #watcherEnded: Promise<unknown>;
  #hasWatcherEnded = false;
  #wasKilled = false;
  #destruction: Promise<void> | undefined;

  constructor(parts: BwrapSandboxParts) {
    const { child, stdin, stdout, stderr } = parts.launched;
    this.id = parts.id;
    this.stdin = stdin;
    this.stdout = detached(stdout);
    this.#child = child;
    this.#status = parts.status;
    this.#processes = parts.processes;
    this.#forget = parts.forget;
    stderr.on("data", (chunk: Buffer) => this.#stderr.append(chunk));
    // An agent that went away while it was written to is told by `exited`.
    for (const stream of [stdin, stdout, stderr]) stream.on("error", () => undefined);
    this.#watcherEnded = endOf(child).finally(() => {
      this.#hasWatcherEnded = true;
    });
    this.exited = this.#watch();
    this.exited.catch(() => undefined);
  }

  stderrTail(): string {
    return this.#stderr.text();
  }

  async pause(): Promise<void> {
    if (this.#hasWatcherEnded) return;
    try {
      await this.#processes.freeze(FREEZE_TIMEOUT_MS);
    } catch (error) {
      if (!this.#hasWatcherEnded && !this.#destruction) throw error;
    }
  }

  async resume(): Promise<void> {
    if (!this.#hasWatcherEnded) await this.#processes.thaw();
  }

  async stop(graceMs: number): Promise<void> {
    if (this.#hasWatcherEnded) return void (await settlesWithin(this.exited, KILL_TIMEOUT_MS));
    await this.resume();
    this.#terminate();
    if (!(await settlesWithin(this.exited, graceMs))) {
      await this.#killAll();
      await settlesWithin(this.exited, KILL_TIMEOUT_MS);
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
    await this.#killAll();
    await settlesWithin(this.exited, KILL_TIMEOUT_MS);
    this.stdin.destroy();
    this.stdout.destroy();
    await this.#forget();
  }

  async #watch(): Promise<SandboxExit> {
    await this.#watcherEnded;
    const memoryKills = await this.#processes.memoryKills();
    const status = await this.#status.exitCode();
    const wasKilled = this.#wasKilled;
    // Its end takes the watcher's children along; this makes sure of it before anybody is told.
    await this.#killAll().catch(() => undefined);
    if (status !== undefined) return exitOfStatus(status, memoryKills > 0 && !wasKilled);
    if (wasKilled || this.#child.signalCode !== null) {
      return exitOfStatus(SIGKILL_STATUS, memoryKills > 0 && !wasKilled);
    }
    throw new SandboxStartError(this.#stderr.text() || `bubblewrap ended with ${this.#child.exitCode}`);
  }

  /** SIGTERM to the helper, which passes it on: bubblewrap's watcher would just die of it and take all along. */
  #terminate(): void {
    const helper = this.#status.childPid;
    if (helper === undefined) return;
    try {
      process.kill(helper, "SIGTERM");
    } catch {
      // It ended in this moment.
    }
  }

  async #killAll(): Promise<void> {
    this.#wasKilled ||= !this.#hasWatcherEnded;
    const started = performance.now();
    for (let round = 0; ; round++) {
      const elapsedMs = performance.now() - started;
      // The watcher is spared at first: it then reaps the sandbox's first process and tells its end.
      const spared = elapsedMs < REPORT_TIMEOUT_MS && !this.#hasWatcherEnded ? this.#child.pid : undefined;
      const left = await this.#processes.kill(spared);
      if (left === 0 && this.#hasWatcherEnded) return;
      if (left === 0 && spared === undefined) this.#child.kill("SIGKILL");
      if (elapsedMs > KILL_TIMEOUT_MS) {
        throw new SandboxStuckError(
          this.id,
          `${left} processes are left after ${KILL_TIMEOUT_MS} ms of SIGKILL`,
        );
      }
      await settlesWithin(
        this.#hasWatcherEnded ? delay(round + 1) : this.#watcherEnded,
        Math.min(round + 1, 20),
      );
    }
  }
}

/**
 * The same bytes from a stream that is not the child's own: Node sets the child's streams flowing when it
 * ends, and what nobody has read by then would be lost.
 */
function detached(stream: Readable): Readable {
  const copy = new PassThrough();
  stream.pipe(copy);
  stream.on("close", () => copy.end());
  copy.on("error", () => undefined);
  copy.on("close", () => stream.destroy());
  return copy;
}

/** Resolves when the process has ended, or could not be started at all. */
async function endOf(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  await once(child, "exit");
}
