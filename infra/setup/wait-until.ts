import { setTimeout as sleep } from "node:timers/promises";
import { SetupError } from "./errors.ts";

export interface WaitOptions {
  /** What is waited for, as the object of "timed out waiting for ...". */
  readonly what: string;
  /** The longest wait in milliseconds. */
  readonly timeoutMs: number;
  /** Pause between two probes in milliseconds. @default 20 */
  readonly intervalMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Probes until the probe gives true. A probe that throws counts as "not yet"; the last failure is the
 * cause of the time-out's error.
 *
 * @throws {SetupError} `SETUP_SERVICE_FAILED` when the time is over; the signal's reason when aborted.
 */
export async function waitUntil(
  probe: () => Promise<boolean> | boolean,
  options: WaitOptions,
): Promise<void> {
  const deadline = performance.now() + options.timeoutMs;
  let failure: unknown;
  for (;;) {
    options.signal?.throwIfAborted();
    try {
      if (await probe()) {
        return;
      }
    } catch (error) {
      failure = error;
    }
    if (performance.now() > deadline) {
      throw new SetupError(
        "SETUP_SERVICE_FAILED",
        `timed out after ${options.timeoutMs} ms waiting for ${options.what}`,
        { cause: failure },
      );
    }
    await sleep(options.intervalMs ?? 20, undefined, { signal: options.signal });
  }
}
