// biome-ignore-all lint/style/noRestrictedImports: names are used below a descriptor of their directory, as SessionTree does

import { lstatSync, type Stats } from "node:fs";
import { type DirectoryDescriptor, errnoOf, UnsafePathError } from "@longshore/shared";
import { ancestorsOf, checkedPath, type FileChanges } from "./file-changes.ts";
import { type BytePath, nameOfPath, parentOfPath, textOfPath } from "./format/byte-path.ts";
import { FileTable } from "./format/file-table.ts";
import type { TableEntry } from "./format/table-entry.ts";
import type { RestorePlan } from "./restore.ts";
import { DirectoryCache } from "./tree/directory-cache.ts";
import { nameStatsOf } from "./tree/directory-listing.ts";
import { type FileRecords, matchesRecord } from "./tree/file-record.ts";

/**
 * Checks that changes can be written into a directory whose agent may have made anything of it since its generation.
 *
 * @throws UnsafePathError `not-a-directory`, `not-a-file`
 */
export function checkDirectoryFor(root: DirectoryDescriptor, changes: FileChanges): void {
  using directories = new DirectoryCache(root);
  const removed = new Set((changes.remove ?? []).map(checkedPath));
  for (const change of changes.set) {
    const path = checkedPath(change.path);
    const shown = textOfPath(path);
    for (const directory of ancestorsOf(path)) {
      if (removed.has(directory)) break;
      const stats = look(directories, directory);
      if (stats === undefined) break;
      if (!stats.isDirectory()) {
        const detail = `${JSON.stringify(textOfPath(directory))} is not a directory`;
        throw new UnsafePathError(shown, "not-a-directory", detail);
      }
    }
    if (removed.has(path) || ancestorsOf(path).some((directory) => removed.has(directory))) continue;
    const there = look(directories, path);
    if (change.type === "directory") {
      if (there !== undefined && !there.isDirectory())
        throw new UnsafePathError(shown, "not-a-directory", "something else stands there");
    } else if (there?.isDirectory() === true)
      throw new UnsafePathError(shown, "not-a-file", "a directory stands there");
  }
}

/** The mode of a directory that exists, whoever made it. */
export function modeOfDirectory(root: DirectoryDescriptor, path: BytePath): number | undefined {
  using directories = new DirectoryCache(root);
  const stats = look(directories, path);
  return stats?.isDirectory() === true ? stats.mode & 0o777 : undefined;
}

/**
 * What has to be done to a directory to bring changes into it, and the directories whose mode and times that may set: the
 * new ones, and those around that were as their generation has them. One that the agent touched since is left for the next
 * mirror to see.
 */
export function planApplication(
  root: DirectoryDescriptor,
  table: FileTable,
  records: FileRecords,
  changes: FileChanges,
  entries: readonly TableEntry[],
): { readonly plan: RestorePlan; readonly finished: FileTable } {
  const remove = (changes.remove ?? []).map(checkedPath);
  const finished = new FileTable();
  const touched = new Set<BytePath>();
  using directories = new DirectoryCache(root);
  for (const path of [...remove, ...entries.map((entry) => entry.path)]) {
    const parent = parentOfPath(path);
    const entry = table.get(parent);
    const record = records.get(parent);
    if (entry?.type !== "directory" || record === undefined || finished.has(parent)) continue;
    const stats = look(directories, parent);
    if (stats === undefined || !matchesRecord(record, nameStatsOf(stats), 0)) continue;
    finished.apply({ set: [entry], removed: [] });
    touched.add(parent);
  }
  finished.apply({ set: entries.filter((entry) => entry.type === "directory"), removed: [] });
  return { plan: { remove, set: entries, touched }, finished };
}

function look(directories: DirectoryCache, path: BytePath): Stats | undefined {
  try {
    return lstatSync(directories.parentOf(path).entryOfBytes(nameOfPath(path)), { throwIfNoEntry: false });
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return undefined;
    throw error;
  }
}
