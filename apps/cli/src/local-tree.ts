import type { Dirent } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import type { FileAnswer } from "./api-schemas.ts";
import { bytesOf } from "./session-files.ts";

const SLASH = Buffer.from("/");

/** A file, directory or link below a directory of this machine. */
export interface LocalEntry {
  /** From that directory, in bytes. */
  readonly path: Buffer;
  readonly type: FileAnswer["type"];
  /** Permission bits. */
  readonly mode: number;
  /** Milliseconds since the epoch, whole. */
  readonly modifiedMs: number;
  /** Of a file. */
  readonly sizeBytes: number;
  /** Of a link. */
  readonly target: Buffer | undefined;
}

export interface LocalTree {
  /** In the order of the paths' bytes, each directory before what is in it. */
  readonly entries: readonly LocalEntry[];
  /** FIFOs, sockets and devices, which no session holds. */
  readonly leftOut: number;
}

/**
 * Reads a tree of this machine. No link is followed.
 *
 * @param isExcluded of paths (as strings of bytes) that are left out, with all below them
 * @throws the errors of `node:fs`
 */
export async function readLocalTree(
  directory: string,
  isExcluded: (path: string) => boolean = () => false,
): Promise<LocalTree> {
  const entries: LocalEntry[] = [];
  let leftOut = 0;
  const pending: Buffer[] = [Buffer.alloc(0)];
  for (let parent = pending.pop(); parent !== undefined; parent = pending.pop()) {
    const at = Buffer.concat([Buffer.from(directory), SLASH, parent]);
    const found: Dirent<NonSharedBuffer>[] = await readdir(at, { withFileTypes: true, encoding: "buffer" });
    for (const { name } of found) {
      const path = parent.length === 0 ? name : Buffer.concat([parent, SLASH, name]);
      if (isExcluded(path.toString("latin1"))) continue;
      const entry = await lookAt(directory, path);
      if (entry === undefined) leftOut += 1;
      else entries.push(entry);
      if (entry?.type === "directory") pending.push(path);
    }
  }
  entries.sort((a, b) => Buffer.compare(a.path, b.path));
  return { entries, leftOut };
}

async function lookAt(directory: string, path: Buffer): Promise<LocalEntry | undefined> {
  const at = Buffer.concat([Buffer.from(directory), SLASH, path]);
  const stats = await lstat(at);
  const type = stats.isFile()
    ? "file"
    : stats.isDirectory()
      ? "directory"
      : stats.isSymbolicLink()
        ? "link"
        : undefined;
  if (type === undefined) return undefined;
  return {
    path,
    type,
    mode: stats.mode & 0o777,
    modifiedMs: Math.floor(stats.mtimeMs),
    sizeBytes: type === "file" ? stats.size : 0,
    target: type === "link" ? await readlink(at, { encoding: "buffer" }) : undefined,
  };
}

/** Whether an entry of this machine is, as far as can be seen without reading it, what the session has. */
export function isSame(local: LocalEntry, remote: FileAnswer): boolean {
  if (local.type !== remote.type) return false;
  const sameTime = local.modifiedMs === Date.parse(remote.modifiedAt);
  if (local.type === "link")
    return sameTime && local.target?.equals(bytesOf(remote.target ?? "", remote.targetBase64)) === true;
  if (local.mode !== remote.mode || !sameTime) return false;
  return local.type === "directory" || local.sizeBytes === remote.sizeBytes;
}
