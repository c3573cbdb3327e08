import { readdir, readFile, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { killAll } from "./kill-processes.ts";
import { asRoot, isRoot } from "./privilege.ts";
import { capture } from "./run-command.ts";

const root = "/sys/fs/cgroup";

/**
 * Removes the control groups whose names begin so, with those below them, from every hierarchy: version 1
 * has one for each controller, version 2 only one. What still runs in them is killed, paused containers
 * included.
 */
export async function removeControlGroups(prefix: string): Promise<void> {
  const groups: string[] = [];
  for (const base of [root, ...(await subdirectories(root))]) {
    for (const group of await subdirectories(base)) {
      if (group.startsWith(join(base, prefix))) {
        groups.push(...(await withDescendants(group)));
      }
    }
  }
  // All hierarchies first: a frozen process ends by no signal, in whichever it is found.
  for (const group of groups) {
    await thaw(group);
  }
  for (const group of groups) {
    await empty(group);
    if (isRoot()) {
      await rmdir(group).catch(() => undefined);
    } else {
      await capture(asRoot(["rmdir", group]));
    }
  }
}

/** The innermost first: the order in which they can be removed. */
async function withDescendants(group: string): Promise<string[]> {
  const below = await Promise.all((await subdirectories(group)).map(withDescendants));
  return [...below.flat(), group];
}

async function thaw(group: string): Promise<void> {
  for (const [file, word] of [
    ["freezer.state", "THAWED"],
    ["cgroup.freeze", "0"],
  ] as const) {
    const path = join(group, file);
    if ((await readFile(path, "utf8").catch(() => null)) !== null) {
      await capture(asRoot(["sh", "-c", 'echo "$1" >"$0"', path, word]));
    }
  }
}

async function empty(group: string): Promise<void> {
  await killAll(async () => {
    const text = await readFile(join(group, "cgroup.procs"), "utf8").catch(() => "");
    return text.split("\n").filter(Boolean).map(Number);
  }, `the processes in ${group} to end`);
}

async function subdirectories(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map((entry) => join(directory, entry.name));
}
