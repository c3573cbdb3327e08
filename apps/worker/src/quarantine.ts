import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Logger } from "@longshore/shared";
import { z } from "zod";

const PROGRAM = fileURLToPath(new URL("./quarantined-worker.ts", import.meta.url));
/** What the process says of its end: after how many ms the session is to be looked at again. */
export const quarantineEndSchema = z.strictObject({ inMs: z.number().nonnegative() });
export type QuarantineEnd = z.output<typeof quarantineEndSchema>;

/** What starting, hydrating and committing may take beside the turn, in ms. */
const BESIDE_TURN_MS = 600_000;
/** How long after the end of its process what it said last is waited for, in ms. */
const LAST_WORD_MS = 1_000;

/**
 * Gives a message that may kill its worker a worker process of its own, for one activation of its session: a death
 * there takes no other session with it, and nobody else can be the one that caused it (I10).
 *
 * The process takes the session's lease like any worker, so it is fenced like any. It ends with its turn; by SIGTERM
 * where this worker drains (it then does as this one does); when this worker is gone; by SIGKILL where it lasts longer
 * than a turn may.
 */
export class Quarantine {
  readonly #environment: NodeJS.ProcessEnv;
  readonly #log: Logger;

  /** @param options.environment that of this worker: the process reads the same configuration */
  constructor(options: { readonly environment: NodeJS.ProcessEnv; readonly log: Logger }) {
    this.#environment = options.environment;
    this.#log = options.log;
  }

  /**
   * Resolves when the process is gone.
   *
   * @returns after how many ms the session is to be looked at again, whatever became of its turn; undefined where the
   * process did not end by itself
   * @param turnMs the longest that the turn may take
   * @param draining aborted where this worker drains
   */
  async run(sessionId: string, turnMs: number, draining: AbortSignal): Promise<number | undefined> {
    if (draining.aborted) return 0;
    const child = fork(PROGRAM, [sessionId], {
      env: this.#environment,
      // Its log goes where this worker's goes; it notices that this worker is gone by the channel's end.
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    let inMs = 0;
    child.on("message", (said) => {
      inMs = quarantineEndSchema.safeParse(said).data?.inMs ?? 0;
    });
    const exited = once(child, "exit");
    this.#log.warn({ sessionId, quarantinePid: child.pid }, "a message is served in quarantine");
    const stop = () => child.kill("SIGTERM");
    draining.addEventListener("abort", stop, { once: true });
    const timer = setTimeout(() => child.kill("SIGKILL"), turnMs + BESIDE_TURN_MS);
    try {
      const [exitCode, signal] = (await exited) as [number | null, NodeJS.Signals | null];
      // What it said last may come after its end. Something that it started may have the channel open still.
      if (child.connected)
        await once(child, "disconnect", { signal: AbortSignal.timeout(LAST_WORD_MS) }).catch(() => undefined);
      this.#log.info({ sessionId, quarantinePid: child.pid, exitCode, signal }, "the quarantine is over");
      return exitCode === 0 ? inMs : undefined;
    } catch (error) {
      this.#log.error({ err: error, sessionId }, "no process for a quarantine");
      return undefined;
    } finally {
      clearTimeout(timer);
      draining.removeEventListener("abort", stop);
    }
  }
}
