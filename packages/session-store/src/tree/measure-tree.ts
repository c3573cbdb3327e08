// biome-ignore-all lint/style/noRestrictedImports: names are used below a descriptor of their directory, as SessionTree does

import { lstatSync } from "node:fs";
import { DirectoryDescriptor, errnoOf } from "@longshore/shared/session-tree";
import { QuotaExceededError } from "../errors.ts";
import type { BytePath } from "../format/byte-path.ts";
import { DirectoryCache } from "./directory-cache.ts";
import { namesIn } from "./directory-listing.ts";
import { Slices } from "./slices.ts";

/** What a tree takes on the disk. */
export interface TreeSize {
  /** Of the file system's blocks: a hole in a file is none, and the end of a file is a whole one. */
  readonly bytes: number;
  /** Names: a file with two of them counts twice. */
  readonly files: number;
}

/**
 * Measures all that is in a directory, whatever a mirror would leave out, but for what is mounted there. It may change meanwhile.
 *
 * @throws QuotaExceededError as soon as it is more than `most`; the signal's reason
 */
export async function measureTree(
  directory: string,
  most: TreeSize,
  signal?: AbortSignal,
): Promise<TreeSize> {
  using root = DirectoryDescriptor.openRoot(directory);
  using directories = new DirectoryCache(root);
  const slices = new Slices(signal);
  const { dev } = lstatSync(`${root.path}/.`);
  let [bytes, files] = [0, 0];
  const left: BytePath[] = [""];
  for (let path = left.pop(); path !== undefined; path = left.pop()) {
    const below = path === "" ? "" : `${path}/`;
    for (const name of namesOf(directories, below)) {
      if (slices.due()) await slices.next();
      const stats = statsOf(directories, below, name);
      if (stats === undefined || stats.dev !== dev) continue;
      bytes += stats.blocks * 512;
      files++;
      if (bytes > most.bytes) throw new QuotaExceededError("disk", most.bytes, bytes);
      if (files > most.files) throw new QuotaExceededError("files", most.files, files);
      if (stats.isDirectory()) left.push(`${below}${name}`);
    }
  }
  return { bytes, files };
}

function namesOf(directories: DirectoryCache, below: string): BytePath[] {
  return ifThere(() => namesIn(directories.parentOf(`${below}.`))) ?? [];
}

/** Undefined when it is gone. */
function statsOf(directories: DirectoryCache, below: string, name: BytePath) {
  return ifThere(() =>
    lstatSync(directories.parentOf(`${below}.`).entryOfBytes(name), { throwIfNoEntry: false }),
  );
}

/** Undefined where the directory is none any more, or another one by now. */
function ifThere<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return undefined;
    throw error;
  }
}
