import { readdir, rm, rmdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, errnoOf, systemClock } from "@longshore/shared";
import { slotsDirectory, usersDirectory, workersDirectory } from "./run-directory.ts";
import type { IsLive, ReapFailure, SandboxRuntime } from "./sandbox.ts";
import { releaseClaims } from "./sandbox-users.ts";
import { removeSlots } from "./slots.ts";
import { isAnswering } from "./worker-presence.ts";

/** An announcement takes milliseconds; one this old was cut off. */
const ANNOUNCEMENT_MAX_AGE_MS = 60_000;

export interface ReaperOptions {
  readonly runtimes: readonly SandboxRuntime[];
  readonly runDirectory: string;
  /**
   * Asked for sandboxes of *live* workers of the host only, this one included: true unless it is known
   * that the activation is over. It must be true from before a sandbox's start.
   */
  readonly isActivationLive: IsLive;
  /** Time between the end of a pass and the next one, in milliseconds. @default 30000 */
  readonly intervalMs?: number;
  /** Told of every pass that `start` makes: for metrics and logs. It must not throw. */
  readonly onPass?: (report: ReaperReport) => void;
  readonly clock?: Clock;
}

/** What one pass removed and could not remove. */
export interface ReaperReport {
  readonly sandboxes: number;
  readonly slots: number;
  readonly workers: number;
  readonly users: number;
  /** Sandboxes that will not die. */
  readonly stuck: readonly ReapFailure[];
  /** Why a part of the pass could not be done, such as an engine that can't be reached. */
  readonly errors: readonly unknown[];
}

/**
 * Removes what dead workers left on the host (invariant I9), and what live ones lost track of. A live worker has the time
 * between two passes to see to a sandbox itself: one that is about to be removed was never lost.
 *
 * A pass: sandboxes of every runtime; then, if all of them could be looked at and none is stuck, the
 * slots, users and directories of dead workers. The users of a dead worker are released a pass later than
 * its directory: an engine may still finish a start that the worker asked for in its last moment, and the
 * next pass finds that sandbox.
 */
export class Reaper {
  readonly #options: ReaperOptions;
  readonly #clock: Clock;
  #pass: Promise<ReaperReport> | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Sandboxes of live workers whose activation was over when the pass before looked. */
  #over: ReadonlySet<string> = new Set();
  #isStarted = false;

  constructor(options: ReaperOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Makes a pass now, or waits for the one that is being made. Failures are in the report. */
  run(): Promise<ReaperReport> {
    this.#pass ??= this.#run().finally(() => {
      this.#pass = undefined;
    });
    return this.#pass;
  }

  /** Makes a pass now and then periodically until `stop`. */
  start(): void {
    if (this.#isStarted) return;
    this.#isStarted = true;
    void this.#loop();
  }

  /** Resolves when no pass is being made any more. */
  async stop(): Promise<void> {
    this.#isStarted = false;
    clearTimeout(this.#timer);
    await this.#pass;
  }

  async #loop(): Promise<void> {
    const report = await this.run();
    this.#options.onPass?.(report);
    if (!this.#isStarted) return;
    this.#timer = setTimeout(() => void this.#loop(), this.#options.intervalMs ?? 30_000);
    this.#timer.unref();
  }

  async #run(): Promise<ReaperReport> {
    const report = { sandboxes: 0, slots: 0, workers: 0, users: 0 };
    const stuck: ReapFailure[] = [];
    const errors: unknown[] = [];
    const attempt = async (part: () => Promise<void>) => {
      try {
        await part();
      } catch (error) {
        errors.push(error);
      }
    };
    // Asked once a pass, before its sandboxes are looked at: of a worker that dies meanwhile some were seen as a live
    // one's, and its directory must not go before them.
    const alive = new Map<string, Promise<boolean>>();
    const isAlive = (worker: string): Promise<boolean> => {
      const known = alive.get(worker) ?? this.#isAlive(worker);
      alive.set(worker, known);
      return known;
    };
    const before = new Set<string>();
    await attempt(async () => {
      for (const name of await this.#workerNames()) before.add(name);
      await Promise.all([...before].map(isAlive));
    });
    const over = new Set<string>();
    for (const runtime of this.#options.runtimes) {
      await attempt(async () => {
        const result = await runtime.reap(async (labels) => {
          if (!(await isAlive(labels.worker))) return false;
          if (await this.#options.isActivationLive(labels)) return true;
          const sandbox = `${runtime.name} ${labels.worker} ${labels.nonce}`;
          over.add(sandbox);
          return !this.#over.has(sandbox);
        });
        report.sandboxes += result.removed.length;
        stuck.push(...result.stuck);
      });
    }
    this.#over = over;
    const isSure = errors.length === 0 && stuck.length === 0;
    for (const name of before) {
      await attempt(async () => {
        if (await isAlive(name)) {
          report.slots += await removeSlots(slotsDirectory(this.#options.runDirectory, name), "cut-off");
        } else if (isSure && !(await this.#isBeingAnnounced(name))) {
          report.slots += await removeSlots(
            join(workersDirectory(this.#options.runDirectory), name, "slots"),
            "all",
          );
          report.workers += await this.#removeWorkerDirectory(name);
        }
      });
    }
    if (isSure) {
      await attempt(async () => {
        report.users += await releaseClaims(
          usersDirectory(this.#options.runDirectory),
          async (worker) => !before.has(worker) && !(await isAlive(worker)),
        );
      });
    }
    return { ...report, stuck, errors };
  }

  #isAlive(worker: string): Promise<boolean> {
    return isAnswering(join(workersDirectory(this.#options.runDirectory), worker));
  }

  async #workerNames(): Promise<string[]> {
    try {
      return await readdir(workersDirectory(this.#options.runDirectory));
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return [];
      throw error;
    }
  }

  async #isBeingAnnounced(name: string): Promise<boolean> {
    if (!name.startsWith(".announcing-")) return false;
    try {
      const { mtimeMs } = await stat(join(workersDirectory(this.#options.runDirectory), name));
      return this.#clock.now() - mtimeMs < ANNOUNCEMENT_MAX_AGE_MS;
    } catch (error) {
      // It is announced by now, under its own name.
      if (errnoOf(error) === "ENOENT") return true;
      throw error;
    }
  }

  /** All in it but the slots, which must be gone, is the fleet's own and was never an agent's. */
  async #removeWorkerDirectory(name: string): Promise<number> {
    const directory = join(workersDirectory(this.#options.runDirectory), name);
    await rmdir(join(directory, "slots")).catch((error: unknown) => {
      if (errnoOf(error) !== "ENOENT") throw error;
    });
    // biome-ignore lint/plugin: no sandbox sees it, and its slots, which they do, are gone
    await rm(directory, { recursive: true, force: true });
    return 1;
  }
}
