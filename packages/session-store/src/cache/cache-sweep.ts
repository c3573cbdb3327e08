// biome-ignore-all lint/style/noRestrictedImports: the cache is of the host alone: no sandbox sees it

import { lstatSync, readdirSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { Slices } from "../tree/slices.ts";

/** Files in `staging/` that nobody wrote to for this long belong to a process that was killed. */
const ABANDONED_MS = 10 * 60 * 1000;

/** Files take whole blocks of a file system. */
const BLOCK_BYTES = 4096;

interface SweptFile {
  readonly path: string;
  readonly bytes: number;
  readonly usedMs: number;
}

/** What a file of this many bytes takes on a disk. */
export function diskBytes(sizeBytes: number): number {
  return Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES;
}

/**
 * Looks at all files of a chunk cache, and removes those used longest ago until it holds no more than it may, as well as
 * what killed processes left half written. Other processes may be at work in it, this one too. Runs in slices.
 *
 * @param limitOf how many bytes it may hold, told how many it does
 * @returns bytes that it holds now, and that were removed
 */
export async function sweepCache(
  directory: string,
  nowMs: number,
  limitOf: (bytes: number) => number,
): Promise<{ readonly bytes: number; readonly evictedBytes: number }> {
  const slices = new Slices();
  const files: SweptFile[] = [];
  let bytes = 0;
  for (const name of namesIn(directory)) {
    const below = join(directory, name);
    for (const file of namesIn(below)) {
      if (slices.due()) await slices.next();
      const path = join(below, file);
      const stats = lstatSync(path, { throwIfNoEntry: false });
      if (stats === undefined) continue;
      if (name === "staging" && stats.mtimeMs < nowMs - ABANDONED_MS) {
        removeFile(path);
        continue;
      }
      const size = diskBytes(stats.size);
      bytes += size;
      if (name !== "staging") files.push({ path, bytes: size, usedMs: stats.mtimeMs });
    }
  }
  const limit = limitOf(bytes);
  const before = bytes;
  if (bytes > limit) {
    files.sort((a, b) => a.usedMs - b.usedMs);
    for (const file of files) {
      if (bytes <= limit) break;
      if (slices.due()) await slices.next();
      removeFile(file.path);
      bytes -= file.bytes;
    }
  }
  return { bytes, evictedBytes: before - bytes };
}

/** Names in a directory; none where there is none, or where it is a file. */
function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Another process was first, or nobody may.
  }
}
