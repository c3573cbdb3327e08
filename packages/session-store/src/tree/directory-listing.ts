// biome-ignore-all lint/style/noRestrictedImports: names are used below a descriptor of their directory, as SessionTree does

import { lstatSync, readdirSync, type Stats } from "node:fs";
import { type DirectoryDescriptor, errnoOf } from "@longshore/shared/session-tree";
import { type BytePath, nameOfPath } from "../format/byte-path.ts";
import { DirectoryCache } from "./directory-cache.ts";

/**
 * What the file system says of a name, as so many numbers: inode, ctime and mtime in ms, size, mode, device. Numbers in an
 * array go from one thread to another for nothing, and ten thousand of them are no work for the garbage collector.
 */
export type NameStats = Float64Array<ArrayBuffer>;
export const STATS_VALUES = 6;

/** Names in a directory and what the file system said of each; a name that was gone by then has mode 0. */
export interface DirectoryListing {
  readonly names: readonly BytePath[];
  readonly stats: NameStats;
}

/** The names in a directory; none when it was removed while it was open. */
export function namesIn(directory: DirectoryDescriptor): BytePath[] {
  try {
    return readdirSync(directory.path, { encoding: "latin1" });
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}

/** Asks for the names from `first` up to `end`, and writes the answers to their places. */
export function statNames(
  directory: DirectoryDescriptor,
  names: readonly BytePath[],
  first: number,
  end: number,
  into: NameStats,
): void {
  for (let at = first; at < end; at++) {
    const stats = lstatSync(directory.entryOfBytes(names[at] ?? ""), { throwIfNoEntry: false });
    if (stats !== undefined) writeStats(into, at, stats);
  }
}

/** Lists directories by path, each as a chain of descriptors (I8); undefined where there is none (any more). */
export function listDirectories(
  root: DirectoryDescriptor,
  paths: readonly BytePath[],
): (DirectoryListing | undefined)[] {
  using directories = new DirectoryCache(root);
  return paths.map((path) => {
    const directory = openIfDirectory(path, directories);
    if (directory === undefined) return undefined;
    try {
      const names = namesIn(directory);
      const stats = new Float64Array(names.length * STATS_VALUES);
      statNames(directory, names, 0, names.length, stats);
      return { names, stats };
    } finally {
      directory.close();
    }
  });
}

function openIfDirectory(path: BytePath, directories: DirectoryCache): DirectoryDescriptor | undefined {
  try {
    return directories.parentOf(path).openDirectoryOfBytes(nameOfPath(path));
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return undefined;
    throw error;
  }
}

/** What the file system said of one path. */
export function nameStatsOf(stats: Stats): NameStats {
  const numbers = new Float64Array(STATS_VALUES);
  writeStats(numbers, 0, stats);
  return numbers;
}

function writeStats(into: NameStats, index: number, stats: Stats): void {
  const at = index * STATS_VALUES;
  into[at] = stats.ino;
  into[at + 1] = stats.ctimeMs;
  into[at + 2] = stats.mtimeMs;
  into[at + 3] = stats.size;
  into[at + 4] = stats.mode;
  into[at + 5] = stats.dev;
}
