import { mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { errnoOf } from "@longshore/shared";

/** Name of the group that holds the sandboxes' groups. */
export const SANDBOXES_GROUP = "longshore";

/**
 * With the pauses between them some 20 seconds: 5 were not enough once, on a machine with much else to do. What is killed counts
 * until it has left its namespaces, in which file systems may have to be written back, and no list shows it meanwhile.
 */
const REMOVE_ATTEMPTS = 1_000;
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

/**
 * Lets the kernel get ready for a process that joins a group soon. The first one for a while waits until all processors have
 * noticed (an RCU grace period below `cgroup_threadgroup_rwsem`, in which no group can be made either; some 9 to 20 ms), those
 * that come within some 20 ms after it do not. Here this process joins the group that it is in, which changes nothing.
 *
 * @param mountPoint of the hierarchy
 * @param controller one of it; empty for version 2
 */
export async function foreseeJoin(mountPoint: string, controller: string): Promise<void> {
  try {
    const groups = (await readFile("/proc/self/cgroup", "utf8")).split("\n").map((line) => line.split(":"));
    const own = groups.find(([, controllers = "-"]) => controllers.split(",").includes(controller))?.[2];
    if (own === undefined) return;
    await writeFile(join(mountPoint, own, "cgroup.procs"), String(process.pid), { flag: "r+" });
  } catch {
    // It is not in sight from here, not this process's to write to, or the like: then a start takes its time.
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
