import { mkdir, readdir, readFile, rmdir } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { errnoOf } from "@longshore/shared";

/** Name of the group that holds the sandboxes' groups. */
export const SANDBOXES_GROUP = "longshore";

/** Period of the microscheduler over which a share of processor time is dealt out, in microseconds. */
export const CPU_PERIOD_MICROSECONDS = 100_000;

const REMOVE_ATTEMPTS = 50;
const FREEZE_POLL_MS = 1;

/** Makes a group below the sandboxes' one, which is made too and which another worker may just remove. */
export async function makeGroup(path: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await mkdir(path, { recursive: true });
      return;
    } catch (error) {
      if (attempt === 3 || errnoOf(error) !== "ENOENT") throw error;
    }
  }
}

/** Removes a group without processes, and the sandboxes' group if it was the last one in it. */
export async function removeGroup(path: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await rmdir(path);
      break;
    } catch (error) {
      const code = errnoOf(error);
      if (code === "ENOENT") break;
      // A process that was reaped a moment ago is still counted.
      if (code !== "EBUSY" || attempt === REMOVE_ATTEMPTS) throw error;
      await delay(Math.min(attempt, 20));
    }
  }
  await rmdir(dirname(path)).catch(() => undefined);
}

export async function listGroups(path: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}

export async function readGroupFile(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const code = errnoOf(error);
    if (code === "ENOENT" || code === "ENODEV") return "";
    throw error;
  }
}

export async function readProcesses(path: string): Promise<number[]> {
  const text = await readGroupFile(path);
  return text
    .split("\n")
    .map(Number)
    .filter((pid) => pid > 0);
}

/** Reads `name value` lines. */
export function countOf(text: string, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)$`, "m").exec(text)?.[1] ?? 0);
}

/** @throws Error when the condition does not come true within the time */
export async function waitUntil(
  condition: () => Promise<boolean>,
  timeoutMs: number,
  problem: string,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`${problem} after ${timeoutMs} ms`);
    await delay(FREEZE_POLL_MS);
  }
}
