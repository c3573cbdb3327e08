/** How long generations are kept. */
export interface Retention {
  /** The newest so many are kept, however old they are; 1 or more. */
  readonly generations: number;
  /** All that are younger than so many days are kept, however many they are. 0: none for its age. */
  readonly days: number;
}

const DAY_MS = 24 * 60 * 60 * 1000;

/**
 * Those of the logs of turns that go: beyond the newest `generations`, and older than `days`.
 *
 * @param logs newest first
 */
export function expiredLogs<T extends { readonly modifiedMs: number }>(
  logs: readonly T[],
  { generations, days }: Retention,
  nowMs: number,
): T[] {
  return logs.slice(generations).filter(({ modifiedMs }) => nowMs - modifiedMs >= days * DAY_MS);
}

/** A commit record as a listing shows it. */
export interface ListedGeneration {
  readonly generation: number;
  readonly modifiedMs: number;
}

/**
 * The generations that are kept, the newest first, and always one: those without a gap from the newest downwards, as far as
 * the retention goes.
 *
 * A record below a gap is no history: its put came so late that what it builds on had been collected. Nor is one below
 * the floor, which collectors never let sink: what those needed may be gone, whatever the retention is now.
 *
 * @param listed newest first
 * @param options.youngMs generations younger than this are kept whatever the retention says
 */
export function retainedGenerations(
  listed: readonly ListedGeneration[],
  retention: Retention,
  options: { readonly nowMs: number; readonly youngMs: number; readonly floor: number },
): number[] {
  const keptMs = Math.max(retention.days * DAY_MS, options.youngMs);
  const kept: number[] = [];
  for (const { generation, modifiedMs } of listed) {
    const above = kept.at(-1);
    if (above !== undefined) {
      if (generation !== above - 1 || generation < options.floor) break;
      if (kept.length >= retention.generations && options.nowMs - modifiedMs >= keptMs) break;
    }
    kept.push(generation);
  }
  return kept;
}
