import { randomBytes } from "node:crypto";
import { opendir, rename, rmdir, unlink } from "node:fs/promises";
import type { DirectoryDescriptor } from "./session-tree-directory.ts";
import { errnoOf, UnsafePathError } from "./session-tree-errors.ts";

/** Directories held open at once; a deeper one is moved up to the top first. */
const OPEN_MAX = 64;

/** How often a directory that is being filled again while we empty it is emptied. */
const EMPTY_ATTEMPTS = 16;

/** The same for the topmost one, into which deep directories are moved: each pass may add work for the next. */
const TOP_ATTEMPTS = 100_000;

/** An entry is gone, filled again, or something else by now: the next pass sees what is there. */
const CHANGED_MEANWHILE: ReadonlySet<string> = new Set(["ENOENT", "ENOTEMPTY", "ENOTDIR", "ELOOP"]);

/**
 * Removes whatever is called `name` in `parent`, and all below it, without following a link (I8).
 *
 * An agent can nest directories deeper than a process may hold descriptors, and `..` may not be trusted while it
 * renames. So a directory that lies too deep is renamed up into the one that is being removed, under a random name,
 * and found there again by the next pass.
 */
export async function removeTree(
  parent: DirectoryDescriptor,
  name: Buffer,
  signal?: AbortSignal,
): Promise<void> {
  if (await removedAsFile(parent, name)) return;
  const top = parent.openDirectory(name);
  try {
    await emptyRepeatedly(top, top, 1, signal);
  } finally {
    top.close();
  }
  await rmdir(parent.entry(name));
}

async function emptyRepeatedly(
  directory: DirectoryDescriptor,
  top: DirectoryDescriptor,
  depth: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const attempts = directory === top ? TOP_ATTEMPTS : EMPTY_ATTEMPTS;
  for (let attempt = 0; attempt < attempts; attempt++) {
    if ((await emptyOnce(directory, top, depth, signal)) === 0) return;
  }
  throw new UnsafePathError(directory.path, "racing", "it is filled again as often as it is emptied");
}

/** @returns how many entries were seen: 0 means that the directory is empty */
async function emptyOnce(
  directory: DirectoryDescriptor,
  top: DirectoryDescriptor,
  depth: number,
  signal: AbortSignal | undefined,
): Promise<number> {
  let seen = 0;
  for await (const entry of await opendir(directory.path, { encoding: "latin1", bufferSize: 256 })) {
    signal?.throwIfAborted();
    seen++;
    await removeEntry(directory, Buffer.from(entry.name, "latin1"), top, depth, signal).catch(
      (error: unknown) => {
        if (!CHANGED_MEANWHILE.has(errnoOf(error) ?? "")) throw error;
      },
    );
  }
  return seen;
}

async function removeEntry(
  directory: DirectoryDescriptor,
  name: Buffer,
  top: DirectoryDescriptor,
  depth: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (await removedAsFile(directory, name)) return;
  if (depth >= OPEN_MAX) {
    const aside = Buffer.from(`.removing-${randomBytes(12).toString("hex")}`);
    await rename(directory.entry(name), top.entry(aside));
    return;
  }
  const child = directory.openDirectory(name);
  try {
    await emptyRepeatedly(child, top, depth + 1, signal);
  } finally {
    child.close();
  }
  await rmdir(directory.entry(name));
}

/** Unlinks anything but a directory. @returns false for a directory */
async function removedAsFile(directory: DirectoryDescriptor, name: Buffer): Promise<boolean> {
  try {
    await unlink(directory.entry(name));
    return true;
  } catch (error) {
    if (errnoOf(error) === "EISDIR") return false;
    throw error;
  }
}
