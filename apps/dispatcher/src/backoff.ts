export interface BackoffOptions {
  /** The first wait, in ms. */
  readonly firstMs: number;
  /** The longest wait, in ms. */
  readonly longestMs: number;
}

/**
 * How long to wait after so many failures (at least 1), in ms: doubled each time, up to the longest, with up
 * to a quarter taken off at random, so that what failed together does not come again together.
 */
export function backoff(
  failures: number,
  { firstMs, longestMs }: BackoffOptions,
  random = Math.random,
): number {
  const full = Math.min(firstMs * 2 ** Math.min(failures - 1, 40), longestMs);
  return Math.ceil(full * (1 - random() / 4));
}
