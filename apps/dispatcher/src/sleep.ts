import { setTimeout as sleepFor } from "node:timers/promises";

/** Waits; gives false where the signal ended the wait before its time. */
export async function sleep(ms: number, signal: AbortSignal): Promise<boolean> {
  try {
    await sleepFor(ms, undefined, { signal });
    return true;
  } catch {
    return false;
  }
}
