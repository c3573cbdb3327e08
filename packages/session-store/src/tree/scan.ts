// biome-ignore-all lint/style/noRestrictedImports: names are used below a descriptor of their directory, as SessionTree does

import { type BigIntStats, constants, lstatSync, readlinkSync } from "node:fs";
import { type DirectoryDescriptor, errnoOf } from "@longshore/shared";
import { QuotaExceededError } from "../errors.ts";
import { type BytePath, depthOfPath, textOfPath } from "../format/byte-path.ts";
import { DEPTH_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX } from "../format/limits.ts";
import type { TreeThreads } from "../threads/tree-threads.ts";
import { DirectoryCache } from "./directory-cache.ts";
import {
  type DirectoryListing,
  type NameStats,
  namesIn,
  STATS_VALUES,
  statNames,
} from "./directory-listing.ts";
import type { PathPredicate } from "./exclusions.ts";
import { type FileRecord, type FileRecords, matchesRecord, recordOfExact, secondsOf } from "./file-record.ts";
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

/** From so many recorded paths on, the directories that are known are listed in the threads: below, it takes longer. */
const THREADS_FROM = 2_000;

/** Names that are asked for between two looks at the clock. */
const NAMES_AT_ONCE = 256;

/**
 * Walks a session tree and finds what is not as it was recorded. Only names, types, sizes and times are looked at;
 * nothing is opened but directories, none through a link (I8).
 *
 * Where much is recorded, the directories it names are listed in the threads, side by side: the listing is nearly all of
 * the time. What is then found to be none any more, or to be new, is walked here, in slices.
 *
 * @throws QuotaExceededError
 */
export async function scanTree(
  root: DirectoryDescriptor,
  threads: TreeThreads,
  records: FileRecords,
  options: ScanOptions = {},
): Promise<Scan> {
  const listed =
    records.size < THREADS_FROM ? new Map() : await listKnown(root, threads, records, options.signal);
  const scanner = new Scanner(root, records, listed, options);
  await scanner.run();
  return scanner.result();
}

type Listings = ReadonlyMap<BytePath, DirectoryListing | undefined>;

async function listKnown(
  root: DirectoryDescriptor,
  threads: TreeThreads,
  records: FileRecords,
  signal: AbortSignal | undefined,
): Promise<Listings> {
  const paths: BytePath[] = [];
  for (const [path, { mode }] of records) if (isType(mode, constants.S_IFDIR)) paths.push(path);
  // Several parts a thread: directories differ in size.
  const share = Math.ceil(paths.length / (threads.limit * 4)) || 1;
  const jobs: Promise<readonly (DirectoryListing | undefined)[]>[] = [];
  for (let at = 0; at < paths.length; at += share) {
    jobs.push(threads.list(root.fd, paths.slice(at, at + share), signal));
  }
  // All of them have to be over before the descriptor may be closed.
  const results = await Promise.allSettled(jobs);
  const listed = new Map<BytePath, DirectoryListing | undefined>();
  for (const [index, result] of results.entries()) {
    if (result.status === "rejected") throw result.reason;
    for (const [at, listing] of result.value.entries()) listed.set(paths[index * share + at] ?? "", listing);
  }
  return listed;
}

class Scanner {
  readonly #root: DirectoryDescriptor;
  readonly #records: FileRecords;
  readonly #listed: Listings;
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

  constructor(root: DirectoryDescriptor, records: FileRecords, listed: Listings, options: ScanOptions) {
    this.#root = root;
    this.#records = records;
    this.#listed = listed;
    this.#options = options;
    this.#slices = new Slices(options.signal);
    this.#device = lstatSync(`${root.path}/.`).dev;
    this.#pathBytes = Math.min(options.quota?.pathBytes ?? PATH_BYTES_MAX, PATH_BYTES_MAX);
  }

  async run(): Promise<void> {
    using directories = new DirectoryCache(this.#root);
    const left: BytePath[] = [""];
    for (let path = left.pop(); path !== undefined; path = left.pop()) {
      const listing = this.#listed.has(path) ? this.#listed.get(path) : await this.#list(directories, path);
      if (listing === undefined) continue;
      const below: BytePath[] = [];
      for (const [index, name] of listing.names.entries()) {
        const child = path === "" ? name : `${path}/${name}`;
        if (this.#take(directories, child, name, listing.stats, index * STATS_VALUES)) below.push(child);
        if (this.#slices.due()) await this.#slices.next();
      }
      if (below.length > 0 && depthOfPath(below[0] ?? "") >= DEPTH_MAX) {
        throw new QuotaExceededError("depth", DEPTH_MAX, DEPTH_MAX + 1, textOfPath(below[0] ?? ""));
      }
      // In the order of the tree: what lies side by side there is packed side by side.
      left.push(...below.reverse());
    }
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

  /** Lists a directory here, in slices; undefined when it is none any more. */
  async #list(directories: DirectoryCache, path: BytePath): Promise<DirectoryListing | undefined> {
    const directory = directoryOf(directories, `${path === "" ? "" : `${path}/`}.`);
    if (directory === undefined) return undefined;
    const names = namesIn(directory);
    const stats = new Float64Array(names.length * STATS_VALUES);
    for (let at = 0; at < names.length; at += NAMES_AT_ONCE) {
      statNames(directory, names, at, Math.min(at + NAMES_AT_ONCE, names.length), stats);
      if (this.#slices.due()) await this.#slices.next();
    }
    return { names, stats };
  }

  /** @returns whether it is a directory that is to be entered */
  #take(directories: DirectoryCache, path: BytePath, name: BytePath, stats: NameStats, at: number): boolean {
    const mode = stats[at + 4] ?? 0;
    // It was gone when it was asked for.
    if (mode === 0) return false;
    const isDirectory = isType(mode, constants.S_IFDIR);
    const isFile = isType(mode, constants.S_IFREG);
    if (!isDirectory && !isFile && !isType(mode, constants.S_IFLNK)) return this.#leaveOut(path, "special");
    if (stats[at + 5] !== this.#device) return this.#leaveOut(path, "mount");
    if (this.#options.exclude?.(path) === true) return this.#leaveOut(path, "excluded");
    this.#count(path, name, isFile ? (stats[at + 3] ?? 0) : undefined);
    const record = this.#records.get(path);
    if (record !== undefined) {
      this.#known++;
      this.#seen.add(path);
      if (matchesRecord(record, stats, at)) return isDirectory;
    }
    const entry = describe(directories, path, name);
    if (entry === undefined) return false;
    this.#changed.push(entry);
    // What is not in the table as a directory must not have entries below it.
    return entry.type === "directory";
  }

  /** @param sizeBytes of a file's content */
  #count(path: BytePath, name: BytePath, sizeBytes: number | undefined): void {
    const { files, fileBytes } = this.#options.quota ?? {};
    this.#entries++;
    if (files !== undefined && this.#entries > files)
      throw new QuotaExceededError("files", files, this.#entries);
    if (path.length > this.#pathBytes || name.length > NAME_BYTES_MAX) {
      throw new QuotaExceededError("pathBytes", this.#pathBytes, path.length, textOfPath(path.slice(0, 200)));
    }
    if (sizeBytes === undefined) return;
    if (fileBytes !== undefined && sizeBytes > fileBytes) {
      throw new QuotaExceededError("fileBytes", fileBytes, sizeBytes, textOfPath(path));
    }
    this.#totalBytes += sizeBytes;
  }

  #leaveOut(path: BytePath, why: LeftOut["why"]): false {
    this.#leftOutCount++;
    if (this.#leftOut.length < LEFT_OUT_NAMED) this.#leftOut.push({ path: textOfPath(path), why });
    return false;
  }
}

/** Looks at a changed path once more: exact times, and where a link points. Undefined when it is gone. */
function describe(directories: DirectoryCache, path: BytePath, name: BytePath): ScannedEntry | undefined {
  const at = directoryOf(directories, path)?.entryOfBytes(name);
  const stats = at === undefined ? undefined : lstatSync(at, { bigint: true, throwIfNoEntry: false });
  if (at === undefined || stats === undefined) return undefined;
  const type = typeOf(stats);
  if (type === undefined) return undefined;
  const target = type === "link" ? targetOf(at) : "";
  if (target === undefined) return undefined;
  const [mtimeSeconds, mtimeNanoseconds] = secondsOf(stats.mtimeNs);
  return {
    path,
    type,
    mode: type === "link" ? 0o777 : Number(stats.mode & 0o777n),
    size: type === "file" ? Number(stats.size) : 0,
    mtimeSeconds,
    mtimeNanoseconds,
    record: recordOfExact(stats, Date.now()),
    target,
  };
}

function typeOf(stats: BigIntStats): ScannedEntry["type"] | undefined {
  if (stats.isFile()) return "file";
  if (stats.isDirectory()) return "directory";
  return stats.isSymbolicLink() ? "link" : undefined;
}

/** Where a link points; undefined when it is none any more. */
function targetOf(at: string | Buffer): BytePath | undefined {
  try {
    return readlinkSync(at, { encoding: "latin1" });
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "EINVAL") return undefined;
    throw error;
  }
}

/** The directory that a path lies in; undefined when there is none any more. */
function directoryOf(directories: DirectoryCache, path: BytePath): DirectoryDescriptor | undefined {
  try {
    return directories.parentOf(path);
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return undefined;
    throw error;
  }
}

function isType(mode: number, type: number): boolean {
  return (mode & constants.S_IFMT) === type;
}
