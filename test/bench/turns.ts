/** One of those that do the same work. */
export interface Contender<Figures> {
  readonly name: string;
  /** Does the work once, in a place of its own, and gives what was measured. @param round counted from 0 */
  readonly run: (round: number) => Promise<Figures>;
}

export interface TurnsOptions<Figures> {
  /** How often each does the work. @default 3 */
  readonly rounds?: number;
  /** What a run took in ms: a peer that took more than three times the fastest peer's in the first round is not run again. */
  readonly cost: (figures: Figures) => number;
}

/** A peer this many times slower than the fastest one can't become it. */
const HOPELESS = 3;

/**
 * Lets all do the same work by turns, each round in another order, so that none always has the machine as the same one
 * left it. Gives the figures of each one's runs.
 */
export async function takeTurns<Figures>(
  ours: readonly Contender<Figures>[],
  peers: readonly Contender<Figures>[],
  options: TurnsOptions<Figures>,
): Promise<ReadonlyMap<string, readonly Figures[]>> {
  const results = new Map<string, Figures[]>();
  let running = [...ours, ...peers];
  for (let round = 0; round < (options.rounds ?? 3); round++) {
    for (const { name, run } of rotated(running, round)) {
      const runs = results.get(name) ?? [];
      runs.push(await run(round));
      results.set(name, runs);
    }
    if (round > 0) continue;
    const costs = new Map(peers.map(({ name }) => [name, Math.min(...costsOf(results, name, options))]));
    const fastest = Math.min(...costs.values());
    running = running.filter(({ name }) => (costs.get(name) ?? 0) <= fastest * HOPELESS);
  }
  return results;
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

function costsOf<Figures>(
  results: ReadonlyMap<string, readonly Figures[]>,
  name: string,
  options: TurnsOptions<Figures>,
): number[] {
  return (results.get(name) ?? []).map(options.cost);
}

function rotated<T>(values: readonly T[], by: number): T[] {
  const start = by % Math.max(1, values.length);
  return [...values.slice(start), ...values.slice(0, start)];
}
