/** Zones and their changes are at multiples of this, in ms. */
const STEP_MS = 15 * 60_000;

/** The day, `YYYY-MM-DD`, that a time in ms is on in a time zone. */
export function dayOf(timeMs: number, timeZone: string): string {
  return new Intl.DateTimeFormat("en-CA", { timeZone, dateStyle: "short" }).format(timeMs);
}

/** When the day that a time is on ends there, in ms. */
export function endOfDay(timeMs: number, timeZone: string): number {
  const day = dayOf(timeMs, timeZone);
  let at = Math.floor(timeMs / STEP_MS) * STEP_MS;
  do at += STEP_MS;
  while (dayOf(at, timeZone) === day);
  return at;
}
