import { backoff } from "./backoff.ts";
import { isTransient, NotReachableError } from "./errors.ts";
import { sleep } from "./sleep.ts";

const RETRY = { firstMs: 100, longestMs: 2_000 } as const;

export interface AwaitAnswerOptions {
  /** What is asked, for the error. */
  readonly what: string;
  /** How long to go on asking, in ms. */
  readonly withinMs: number;
  readonly signal: AbortSignal;
}

/**
 * Asks until there is an answer: at a start, what is needed may be starting too. Errors that no time mends are
 * thrown at once; `NotReachableError` when the time is over.
 */
export async function awaitAnswer<T>(
  ask: () => Promise<T>,
  { what, withinMs, signal }: AwaitAnswerOptions,
): Promise<T> {
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(withinMs)]);
  for (let failures = 1; ; failures++) {
    try {
      return await ask();
    } catch (error) {
      if (!isTransient(error)) throw error;
      if (!(await sleep(backoff(failures, RETRY), deadline)))
        throw new NotReachableError(what, withinMs, error);
    }
  }
}
