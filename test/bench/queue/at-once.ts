/**
 * Does a piece of work `count` times, `concurrency` of them at once.
 *
 * @param work gets the number of the piece, from 0
 * @returns how long all took, in ms
 */
export async function atOnce(
  count: number,
  concurrency: number,
  work: (index: number) => Promise<void>,
): Promise<number> {
  const start = performance.now();
  let next = 0;
  const lanes = Array.from({ length: Math.min(concurrency, count) }, async () => {
    while (next < count) await work(next++);
  });
  await Promise.all(lanes);
  return performance.now() - start;
}
