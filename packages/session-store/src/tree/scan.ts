import { lstatSync, readdirSync, readlinkSync, type Stats } from "node:fs";
import { type DirectoryDescriptor, errnoOf } from "@longshore/shared";
import { QuotaExceededError } from "../errors.ts";
import { type BytePath, textOfPath } from "../format/byte-path.ts";
import { DEPTH_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX } from "../format/limits.ts";
import type { PathPredicate } from "./exclusions.ts";
import { type FileRecord, type FileRecords, matchesRecord, recordOf } from "./file-record.ts";
import { Slices } from "./slices.ts";

/** Bounds of a session directory. What is not given is not bounded, but for the format's own limits. */
export interface Quota {
  /** Content of all files, in bytes. */
  readonly bytes?: number;
  /** Files, directories and links. */
  readonly files?: number;
  /** Content of one file, in bytes. */
  readonly fileBytes?: number;
  /** Length of one path, in bytes. @default 4096, which is also the most */
  readonly pathBytes?: number;
}

/** Something in the tree that is no part of a generation. */
export interface LeftOut {
  readonly path: string;
  /** `special`: FIFO, socket or device. `mount`: another file system. `excluded`: by a pattern. */
  readonly why: "special" | "mount" | "excluded";
}

/** A path that is new, or not what was recorded. */
export interface ScannedEntry {
  readonly path: BytePath;
  readonly type: "file" | "directory" | "link";
  readonly mode: number;
  readonly size: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  readonly record: FileRecord;
  /** Of a link. */
  readonly target: BytePath;
}

export interface Scan {
  readonly changed: readonly ScannedEntry[];
  readonly removed: readonly BytePath[];
  /** Entries and bytes of content in the whole tree. */
  readonly entries: number;
  readonly totalBytes: number;
  readonly leftOut: readonly LeftOut[];
  /** Also those beyond the first hundred, which are not named. */
  readonly leftOutCount: number;
}

export interface ScanOptions {
  readonly exclude?: PathPredicate | undefined;
  readonly quota?: Quota | undefined;
  readonly signal?: AbortSignal | undefined;
}

const LEFT_OUT_NAMED = 100;

/**
 * Walks a session tree and finds what is not as it was recorded. Only names, types, sizes and times are looked at;
 * nothing is opened but directories, none through a link (I8).
 *
 * Runs on the caller's thread, in slices: for 10,000 files it takes some 50 ms, which is less than it costs to hand the
 * records to another thread and back.
 *
 * @throws QuotaExceededError
 */
export async function scanTree(
  root: DirectoryDescriptor,
  records: FileRecords,
  options: ScanOptions = {},
): Promise<Scan> {
  const scanner = new Scanner(root, records, options);
  await scanner.run();
  return scanner.result();
}

class Scanner {
  readonly #root: DirectoryDescriptor;
  readonly #records: FileRecords;
  readonly #options: ScanOptions;
  readonly #slices: Slices;
  readonly #device: number;
  readonly #changed: ScannedEntry[] = [];
  readonly #seen = new Set<BytePath>();
  readonly #leftOut: LeftOut[] = [];
  readonly #pathBytes: number;
  #leftOutCount = 0;
  #known = 0;
  #entries = 0;
  #totalBytes = 0;

  constructor(root: DirectoryDescriptor, records: FileRecords, options: ScanOptions) {
    this.#root = root;
    this.#records = records;
    this.#options = options;
    this.#slices = new Slices(options.signal);
    this.#device = lstatSync(`${root.path}/.`).dev;
    this.#pathBytes = Math.min(options.quota?.pathBytes ?? PATH_BYTES_MAX, PATH_BYTES_MAX);
  }

  async run(): Promise<void> {
    await this.#directory(this.#root, "", 1);
    const { bytes } = this.#options.quota ?? {};
    if (bytes !== undefined && this.#totalBytes > bytes) {
      throw new QuotaExceededError("bytes", bytes, this.#totalBytes);
    }
  }

  result(): Scan {
    const removed: BytePath[] = [];
    if (this.#known < this.#records.size) {
      for (const path of this.#records.keys()) if (!this.#seen.has(path)) removed.push(path);
    }
    return {
      changed: this.#changed,
      removed,
      entries: this.#entries,
      totalBytes: this.#totalBytes,
      leftOut: this.#leftOut,
      leftOutCount: this.#leftOutCount,
    };
  }

  async #directory(directory: DirectoryDescriptor, prefix: BytePath, depth: number): Promise<void> {
    const below: BytePath[] = [];
    for (const name of namesIn(directory)) {
      const path = prefix + name;
      const stats = lstatSync(directory.entryOfBytes(name), { throwIfNoEntry: false });
      if (stats !== undefined && this.#take(directory, name, path, stats)) below.push(name);
      if (this.#slices.due()) await this.#slices.next();
    }
    for (const name of below) {
      const path = prefix + name;
      if (depth >= DEPTH_MAX) throw new QuotaExceededError("depth", DEPTH_MAX, depth + 1, textOfPath(path));
      const child = openIfDirectory(directory, name);
      if (child === undefined) continue;
      try {
        await this.#directory(child, `${path}/`, depth + 1);
      } finally {
        child.close();
      }
    }
  }

  /** @returns whether it is a directory that is to be entered */
  #take(directory: DirectoryDescriptor, name: BytePath, path: BytePath, stats: Stats): boolean {
    const isDirectory = stats.isDirectory();
    if (!isDirectory && !stats.isFile() && !stats.isSymbolicLink()) return this.#leaveOut(path, "special");
    if (stats.dev !== this.#device) return this.#leaveOut(path, "mount");
    if (this.#options.exclude?.(path) === true) return this.#leaveOut(path, "excluded");
    this.#count(name, path, stats);
    const record = this.#records.get(path);
    if (record !== undefined) {
      this.#known++;
      this.#seen.add(path);
      if (matchesRecord(record, stats)) return isDirectory;
    }
    const entry = describe(directory, name, path);
    if (entry === undefined) return false;
    this.#changed.push(entry);
    // What is not in the table as a directory must not have entries below it.
    return entry.type === "directory";
  }

  #count(name: BytePath, path: BytePath, stats: Stats): void {
    const { files, fileBytes } = this.#options.quota ?? {};
    this.#entries++;
    if (files !== undefined && this.#entries > files)
      throw new QuotaExceededError("files", files, this.#entries);
    if (path.length > this.#pathBytes || name.length > NAME_BYTES_MAX) {
      throw new QuotaExceededError("pathBytes", this.#pathBytes, path.length, textOfPath(path.slice(0, 200)));
    }
    if (!stats.isFile()) return;
    if (fileBytes !== undefined && stats.size > fileBytes) {
      throw new QuotaExceededError("fileBytes", fileBytes, stats.size, textOfPath(path));
    }
    this.#totalBytes += stats.size;
  }

  #leaveOut(path: BytePath, why: LeftOut["why"]): false {
    this.#leftOutCount++;
    if (this.#leftOut.length < LEFT_OUT_NAMED) this.#leftOut.push({ path: textOfPath(path), why });
    return false;
  }
}

/** Looks at a changed path once more, in full: exact times, and where a link points. Undefined when it is gone. */
function describe(directory: DirectoryDescriptor, name: BytePath, path: BytePath): ScannedEntry | undefined {
  const at = directory.entryOfBytes(name);
  const stats = lstatSync(at, { throwIfNoEntry: false });
  const exact = lstatSync(at, { bigint: true, throwIfNoEntry: false });
  if (exact === undefined || stats === undefined) return undefined;
  const type = exact.isFile()
    ? "file"
    : exact.isDirectory()
      ? "directory"
      : exact.isSymbolicLink()
        ? "link"
        : undefined;
  if (type === undefined) return undefined;
  let target = "";
  if (type === "link") {
    try {
      target = readlinkSync(at, { encoding: "latin1" });
    } catch (error) {
      if (errnoOf(error) === "ENOENT" || errnoOf(error) === "EINVAL") return undefined;
      throw error;
    }
  }
  const record = recordOf(stats, Date.now());
  // Milliseconds as a float are exact to a quarter of a microsecond.
  const changedBetween = Math.abs(Number(exact.ctimeNs) / 1e6 - stats.ctimeMs) > 0.001;
  const seconds = floorDivide(exact.mtimeNs, 1_000_000_000n);
  return {
    path,
    type,
    mode: type === "link" ? 0o777 : Number(exact.mode & 0o777n),
    size: type === "file" ? Number(exact.size) : 0,
    mtimeSeconds: Number(seconds),
    mtimeNanoseconds: Number(exact.mtimeNs - seconds * 1_000_000_000n),
    record: changedBetween ? { ...record, racy: true } : record,
    target,
  };
}

function floorDivide(value: bigint, by: bigint): bigint {
  const quotient = value / by;
  return value < 0n && quotient * by !== value ? quotient - 1n : quotient;
}

/** The names in a directory; none when it was removed while it was open. */
function namesIn(directory: DirectoryDescriptor): string[] {
  try {
    return readdirSync(directory.path, { encoding: "latin1" });
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}

/** Opens a directory that was there a moment ago; undefined when it is none any more. */
function openIfDirectory(parent: DirectoryDescriptor, name: BytePath): DirectoryDescriptor | undefined {
  try {
    return parent.openDirectoryOfBytes(name);
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return undefined;
    throw error;
  }
}
