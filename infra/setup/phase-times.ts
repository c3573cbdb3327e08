/** Seconds that each phase of a turn took in all, by the metrics of a process. */
export type PhaseTimes = ReadonlyMap<string, number>;

const sumLine = /^longshore_turn_phase_seconds_sum\{(?<labels>[^}]*)\} (?<value>\S+)$/;

/** Reads them from what `/metrics` answers; phases of all agents together. */
export function parsePhaseTimes(metrics: string): PhaseTimes {
  const times = new Map<string, number>();
  for (const line of metrics.split("\n")) {
    const { labels = "", value } = sumLine.exec(line)?.groups ?? {};
    const phase = /phase="([^"]*)"/.exec(labels)?.[1];
    if (phase !== undefined) times.set(phase, (times.get(phase) ?? 0) + Number(value));
  }
  return times;
}

/** Asks processes for their metrics; one that is gone has no say. */
export async function readPhaseTimes(metricsUrls: readonly string[]): Promise<PhaseTimes> {
  const all = new Map<string, number>();
  for (const url of metricsUrls) {
    const response = await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(5_000) }).catch(() => null);
    if (response === null) continue;
    for (const [phase, seconds] of parsePhaseTimes(await response.text())) {
      all.set(phase, (all.get(phase) ?? 0) + seconds);
    }
  }
  return all;
}

/** What was added since, in milliseconds, in one line. */
export function describePhases(before: PhaseTimes, after: PhaseTimes): string {
  return [...after]
    .map(([phase, seconds]) => [phase, (seconds - (before.get(phase) ?? 0)) * 1_000] as const)
    .filter(([, ms]) => ms > 0)
    .map(([phase, ms]) => `${phase} ${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`)
    .join(" · ");
}
