import { setTimeout as delay } from "node:timers/promises";

/** How often and after which waits something that failed is tried again. */
export interface RetryPolicy {
  /** Tries in all, the first included. */
  readonly attempts: number;
  /** Longest first wait in ms; it doubles from try to try. */
  readonly firstMs: number;
  /** Longest wait in ms. */
  readonly longestMs: number;
}

/** About ten seconds of trying in the mean: longer than a gateway's restart, shorter than a lease's patience. */
export const DEFAULT_RETRY: RetryPolicy = { attempts: 7, firstMs: 100, longestMs: 5_000 };

/**
 * Runs an operation until it succeeds, its error is not retryable, or the attempts are used up. Waits with full
 * jitter, so that a fleet that was throttled together does not come back together.
 */
export async function retrying<T>(
  operation: (attempt: number) => Promise<T>,
  isRetryable: (error: unknown) => boolean,
  policy: RetryPolicy,
  random: () => number,
  signal?: AbortSignal,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    signal?.throwIfAborted();
    try {
      return await operation(attempt);
    } catch (error) {
      signal?.throwIfAborted();
      if (attempt >= policy.attempts || !isRetryable(error)) throw error;
    }
    const longest = Math.min(policy.longestMs, policy.firstMs * 2 ** (attempt - 1));
    await delay(longest * random(), undefined, signal === undefined ? {} : { signal });
  }
}
