import { splitTreePath, UnsafePathError } from "@longshore/shared";
import { type Content, contentSize } from "./backend/backend.ts";
import { QuotaExceededError } from "./errors.ts";
import { type BytePath, depthOfPath, parentOfPath, pathOf, textOfPath } from "./format/byte-path.ts";
import type { FileTable } from "./format/file-table.ts";
import { DEPTH_MAX, PATH_BYTES_MAX } from "./format/limits.ts";
import type { DirectoryEntry, LinkEntry, TableEntry } from "./format/table-entry.ts";
import type { Quota } from "./tree/scan.ts";

/** A file that is to be, whatever stood there. */
export interface FileChange {
  /** From the session directory. Directories on the way are made. */
  readonly path: string | Buffer;
  readonly type?: "file";
  readonly content: Content;
  /** Permission bits; others are dropped. @default 0o644 */
  readonly mode?: number;
  /** Modification time, ms since the epoch. @default now */
  readonly mtimeMs?: number;
}

/** A directory that is to be there, empty or not, with this mode. */
export interface DirectoryChange {
  readonly path: string | Buffer;
  readonly type: "directory";
  /** Permission bits; others are dropped. @default 0o755 */
  readonly mode?: number;
  /** Modification time, ms since the epoch. @default now */
  readonly mtimeMs?: number;
}

/** A symbolic link that is to be, whatever file or link stood there. */
export interface LinkChange {
  readonly path: string | Buffer;
  readonly type: "link";
  /** Where it points; followed by nobody here. */
  readonly target: string | Buffer;
  /** Modification time, ms since the epoch. @default now */
  readonly mtimeMs?: number;
}

export type TreeChange = FileChange | DirectoryChange | LinkChange;

/** Changes that are made to a generation without its directory: first what is removed, then what is set, in order. */
export interface FileChanges {
  readonly set: readonly TreeChange[];
  /** Files, links, and directories with all below them. What is not there is no error. */
  readonly remove?: readonly (string | Buffer)[];
  /** Bounds of the generation that is made. @default only the format's own limits */
  readonly quota?: Quota;
}

/** A file to store, its place checked. */
export interface PlannedFile {
  readonly path: BytePath;
  readonly content: Content;
  readonly mode: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
}

/** What changes come to in a table. */
export interface PlannedChanges {
  readonly files: readonly PlannedFile[];
  readonly links: readonly LinkEntry[];
  /** Those that were asked for, and those that the others need and the table has not. */
  readonly directories: readonly DirectoryEntry[];
  /** Paths of the table that are gone, and are not set again. */
  readonly removed: readonly BytePath[];
}

const FILE_MODE = 0o644;
const DIRECTORY_MODE = 0o755;
/** What the system says of every link. */
const LINK_MODE = 0o777;

/**
 * Checks changes against a table.
 *
 * @param modeOf the mode of a directory that is not in the table but exists where the changes will be made
 * @throws UnsafePathError `malformed`, `not-a-directory` (a file or link is in the way), `not-a-file` (a directory stands
 *   where a file or link is to be), `malformed` (a link's target); QuotaExceededError
 */
export function planChanges(
  table: FileTable,
  changes: FileChanges,
  nowMs: number,
  modeOf: (directory: BytePath) => number | undefined = () => undefined,
): PlannedChanges {
  const removed = removedPaths(table, changes.remove ?? []);
  const made = new Map<BytePath, DirectoryEntry | LinkEntry | PlannedFile>();
  const typeAt = (path: BytePath): TableEntry["type"] | undefined => {
    const own = made.get(path);
    if (own !== undefined) return "content" in own ? "file" : own.type;
    return removed.has(path) ? undefined : table.get(path)?.type;
  };
  const refuse = (path: BytePath, directory: BytePath, type: TableEntry["type"]) => {
    const detail = `${JSON.stringify(textOfPath(directory))} is a ${type}, not a directory`;
    return new UnsafePathError(textOfPath(path), "not-a-directory", detail);
  };
  for (const change of changes.set) {
    const path = checkedPath(change.path);
    for (const directory of ancestorsOf(path)) {
      const type = typeAt(directory);
      if (type === "directory") continue;
      if (type !== undefined) throw refuse(path, directory, type);
      const mode = modeOf(directory) ?? DIRECTORY_MODE;
      made.set(directory, { type: "directory", path: directory, mode, ...timeOf(nowMs) });
    }
    const there = typeAt(path);
    if (change.type === "directory") {
      if (there !== undefined && there !== "directory") throw refuse(path, path, there);
    } else if (there === "directory")
      throw new UnsafePathError(textOfPath(path), "not-a-file", "a directory stands there");
    made.set(path, plannedChange(path, change, nowMs));
  }
  const files: PlannedFile[] = [];
  const links: LinkEntry[] = [];
  const directories: DirectoryEntry[] = [];
  for (const entry of made.values()) {
    if ("content" in entry) files.push(entry);
    else if (entry.type === "link") links.push(entry);
    else directories.push(entry);
    removed.delete(entry.path);
  }
  const planned = { files, links, directories, removed: [...removed] };
  if (changes.quota !== undefined) checkQuota(table, planned, changes.quota);
  return planned;
}

function plannedChange(
  path: BytePath,
  change: TreeChange,
  nowMs: number,
): DirectoryEntry | LinkEntry | PlannedFile {
  const time = timeOf(change.mtimeMs ?? nowMs);
  if (change.type === "link")
    return { type: "link", path, mode: LINK_MODE, target: checkedTarget(path, change.target), ...time };
  if (change.type === "directory")
    return { type: "directory", path, mode: (change.mode ?? DIRECTORY_MODE) & 0o777, ...time };
  return { path, content: change.content, mode: (change.mode ?? FILE_MODE) & 0o777, ...time };
}

/** What the system would take as a link's target. */
function checkedTarget(path: BytePath, target: string | Buffer): BytePath {
  const bytes = pathOf(target);
  if (bytes.length === 0 || bytes.length >= PATH_BYTES_MAX || bytes.includes("\0"))
    throw new UnsafePathError(textOfPath(path), "malformed", "its target can't be that of a link");
  return bytes;
}

/** A path from outside. @throws UnsafePathError `malformed` */
export function checkedPath(input: string | Buffer): BytePath {
  splitTreePath(input);
  const path = pathOf(input);
  const depth = depthOfPath(path);
  if (depth > DEPTH_MAX)
    throw new QuotaExceededError("depth", DEPTH_MAX, depth, textOfPath(path.slice(0, 200)));
  return path;
}

/** The directories that a path lies in, the topmost first. */
export function ancestorsOf(path: BytePath): BytePath[] {
  const ancestors: BytePath[] = [];
  for (let parent = parentOfPath(path); parent !== ""; parent = parentOfPath(parent)) ancestors.push(parent);
  return ancestors.reverse();
}

/** Paths of a table that go when some are removed with all below them. */
function removedPaths(table: FileTable, inputs: readonly (string | Buffer)[]): Set<BytePath> {
  const removed = new Set<BytePath>();
  let withDirectories = false;
  for (const input of inputs) {
    const path = checkedPath(input);
    const entry = table.get(path);
    if (entry === undefined) continue;
    removed.add(path);
    withDirectories ||= entry.type === "directory";
  }
  if (!withDirectories) return removed;
  const tops = new Set(removed);
  for (const path of table.paths()) {
    for (let parent = parentOfPath(path); parent !== ""; parent = parentOfPath(parent)) {
      if (tops.has(parent)) removed.add(path);
    }
  }
  return removed;
}

function checkQuota(table: FileTable, planned: PlannedChanges, quota: Quota): void {
  let entries = table.size - planned.removed.length;
  let bytes = table.totalBytes;
  for (const path of planned.removed) bytes -= sizeAt(table, path);
  for (const { path } of [...planned.directories, ...planned.links, ...planned.files]) {
    if (quota.pathBytes !== undefined && path.length > quota.pathBytes)
      throw new QuotaExceededError("pathBytes", quota.pathBytes, path.length, textOfPath(path.slice(0, 200)));
    if (!table.has(path)) entries++;
    bytes -= sizeAt(table, path);
  }
  for (const { path, content } of planned.files) {
    const size = contentSize(content);
    if (quota.fileBytes !== undefined && size > quota.fileBytes)
      throw new QuotaExceededError("fileBytes", quota.fileBytes, size, textOfPath(path));
    bytes += size;
  }
  if (quota.files !== undefined && entries > quota.files)
    throw new QuotaExceededError("files", quota.files, entries);
  if (quota.bytes !== undefined && bytes > quota.bytes)
    throw new QuotaExceededError("bytes", quota.bytes, bytes);
}

function sizeAt(table: FileTable, path: BytePath): number {
  const entry = table.get(path);
  return entry?.type === "file" ? entry.size : 0;
}

function timeOf(ms: number): { readonly mtimeSeconds: number; readonly mtimeNanoseconds: number } {
  const mtimeSeconds = Math.floor(ms / 1000);
  const mtimeNanoseconds = Math.min(999_999_999, Math.round((ms - mtimeSeconds * 1000) * 1e6));
  return { mtimeSeconds, mtimeNanoseconds };
}
