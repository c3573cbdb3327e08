import { OwnedProcess, type OwnedProcessOptions } from "./owned-process.ts";
import { waitUntil } from "./wait-until.ts";

export interface LaunchOptions extends OwnedProcessOptions {
  /** Whether it answers by now; throwing counts as no. */
  readonly answers: () => Promise<boolean>;
  /** The longest start in milliseconds. */
  readonly startTimeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Starts a process and waits until it answers.
 *
 * @throws {SetupError} `SETUP_SERVICE_FAILED` when it ends or does not answer in time, with its log; the
 * process is gone then.
 */
export async function launch(options: LaunchOptions): Promise<OwnedProcess> {
  const owned = await OwnedProcess.start(options);
  const startedUp = new AbortController();
  const signals = options.signal === undefined ? [startedUp.signal] : [options.signal, startedUp.signal];
  try {
    await Promise.race([
      waitUntil(options.answers, {
        what: `${options.name} to answer`,
        timeoutMs: options.startTimeoutMs,
        signal: AbortSignal.any(signals),
      }),
      owned.exited.then(() => owned.assertRunning()),
    ]);
    return owned;
  } catch (error) {
    await owned.kill();
    throw error;
  } finally {
    startedUp.abort();
  }
}
