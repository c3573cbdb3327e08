/** Does something for each, so many at once; the first failure ends it, once those begun have ended. */
export async function eachBounded<T>(
  items: Iterable<T>,
  limit: number,
  operation: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items[Symbol.iterator]();
  let failed = false;
  const work = async () => {
    for (let next = queue.next(); next.done !== true && !failed; next = queue.next()) {
      await operation(next.value).catch((error: unknown) => {
        failed = true;
        throw error;
      });
    }
  };
  const outcomes = await Promise.allSettled(Array.from({ length: limit }, work));
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
}
