import { readdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { asRoot, isRoot } from "./privilege.ts";
import { capture } from "./run-command.ts";

/**
 * Removes the control groups whose names begin so, with the empty ones below them, from every hierarchy:
 * version 1 has one for each controller, version 2 only one. A group with processes in it stays.
 */
export async function removeControlGroups(prefix: string): Promise<void> {
  const root = "/sys/fs/cgroup";
  for (const base of [root, ...(await subdirectories(root))]) {
    for (const group of await subdirectories(base)) {
      if (group.startsWith(join(base, prefix))) {
        await removeGroup(group);
      }
    }
  }
}

async function removeGroup(group: string): Promise<void> {
  for (const below of await subdirectories(group)) {
    await removeGroup(below);
  }
  if (isRoot()) {
    await rmdir(group).catch(() => undefined);
  } else {
    await capture(asRoot(["rmdir", group]));
  }
}

async function subdirectories(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map((entry) => join(directory, entry.name));
}
