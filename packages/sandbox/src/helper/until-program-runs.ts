import { settlesWithin } from "../deadline.ts";
import { SandboxStartError } from "../errors.ts";
import type { Sandbox } from "../sandbox.ts";
import type { Lifeline } from "./lifeline.ts";

const START_TIMEOUT_MS = 30_000;
/** What the helper wrote before it ended is there when its end is told, and read soon. */
const LAST_NEWS_MS = 1_000;

/**
 * Resolves when the program of a sandbox that is being started runs, or ran and ended.
 * @throws CommandFailedError; SandboxStartError when it ended before that, or takes too long; what the sandbox's
 * `exited` rejects with; the signal's reason
 */
export async function untilProgramRuns(
  sandbox: Pick<Sandbox, "exited" | "stderrTail">,
  lifeline: Lifeline,
  signal: AbortSignal | undefined,
): Promise<void> {
  const given = Promise.withResolvers<never>();
  const abort = () => given.reject(signal?.reason);
  signal?.addEventListener("abort", abort, { once: true });
  const timer = setTimeout(
    () => given.reject(new SandboxStartError(`not within ${START_TIMEOUT_MS} ms`, { retryable: true })),
    START_TIMEOUT_MS,
  );
  try {
    signal?.throwIfAborted();
    const runs = lifeline.programRuns.then(() => true);
    const hasNews = await Promise.race([runs, sandbox.exited.then(() => false), given.promise]);
    if (!hasNews && !(await settlesWithin(runs, LAST_NEWS_MS))) {
      throw new SandboxStartError(sandbox.stderrTail() || "its helper told nothing");
    }
    await runs;
    signal?.throwIfAborted();
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}
