// biome-ignore-all lint/style/noRestrictedImports: names are used below a descriptor of their directory, as SessionTree does

import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  futimesSync,
  lchownSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  symlinkSync,
  unlinkSync,
} from "node:fs";
import { type DirectoryDescriptor, errnoOf, removeTree } from "@longshore/shared";
import { forEachBounded } from "./bounded.ts";
import { type BytePath, bytesOfPath, nameOfPath, parentOfPath } from "./format/byte-path.ts";
import type { Commit } from "./format/commit.ts";
import type { FileTable } from "./format/file-table.ts";
import type { Chunk, DirectoryEntry, FileEntry, Frame, LinkEntry, TableEntry } from "./format/table-entry.ts";
import {
  type FrameRange,
  LARGE_RANGE_BYTES,
  planRanges,
  RANGE_BYTES,
  rangeBytesMax,
  useRange,
} from "./frame-ranges.ts";
import type { DirectoryRef } from "./keys.ts";
import { type ProgressListener, ProgressMeter } from "./progress.ts";
import type { StoreContext } from "./store-context.ts";
import { DirectoryCache } from "./tree/directory-cache.ts";
import { type FileRecord, type FileRecords, recordOf, TIME_STEP_MS } from "./tree/file-record.ts";
import { Slices } from "./tree/slices.ts";
import {
  createFile,
  type FileToWrite,
  type FrameToWrite,
  finishFile,
  type Owner,
  type PlaceToWrite,
  WRITTEN_VALUES,
  type WrittenFiles,
  writeFrames,
} from "./tree/write-frames.ts";

/** Ranges of small files that are read, unpacked and written at once, and of each of the large files. */
const RANGES_MAX = 6;
const LARGE_FILE_RANGES_MAX = 2;

/** Files of several chunks that are written at once. */
const LARGE_FILES_MAX = 2;

/** Up to this much is written on the main thread: handing it to another one takes longer. */
const SMALL_FILES = 32;
const SMALL_BYTES = 512 * 1024;

/** What is to be done to a directory to make it equal a table. */
export interface RestorePlan {
  /** Paths that are there and must not be. */
  readonly remove: readonly BytePath[];
  /** Entries that are not there, or not so. */
  readonly set: readonly TableEntry[];
  /** Directories that are as the table has them, but whose times the work above changes. */
  readonly touched: ReadonlySet<BytePath>;
}

/** A directory that is to equal a table. */
export interface RestoreJob {
  readonly ref: DirectoryRef;
  readonly root: DirectoryDescriptor;
  /** The generation of the table; undefined: the empty table of generation 0. */
  readonly commit: Commit | undefined;
  /** Checked as a whole. */
  readonly table: FileTable;
  readonly plan: RestorePlan;
  /** Of all that is made. @default the process' own user and group */
  readonly owner: Owner | undefined;
  readonly onProgress?: ProgressListener | undefined;
}

/**
 * Makes a directory equal a table.
 *
 * Nothing here trusts the directory: an agent may be renaming in it (I8). Nothing trusts the store: the table was
 * checked as a whole before, each chunk is verified before a byte of it is written.
 *
 * @returns what the file system says of every entry that was set or touched
 * @throws CorruptObjectError, ObjectNotFoundError, errors of the store and of `node:fs`; the directory is then neither
 *   the old generation nor the new one
 */
export async function restore(
  context: StoreContext,
  job: RestoreJob,
  signal: AbortSignal | undefined,
): Promise<FileRecords> {
  const { plan } = job;
  const run = new Restore(context, job, signal);
  await run.remove(plan.remove);
  await run.makeDirectories(plan.set);
  await run.writeFiles(plan.set);
  await run.makeLinks(plan.set);
  await run.finishDirectories();
  run.endProgress();
  return run.records();
}

class Restore {
  readonly #context: StoreContext;
  readonly #job: RestoreJob;
  readonly #root: DirectoryDescriptor;
  readonly #signal: AbortSignal | undefined;
  readonly #slices: Slices;
  readonly #records: FileRecords = new Map();
  readonly #progress: ProgressMeter;

  constructor(context: StoreContext, job: RestoreJob, signal: AbortSignal | undefined) {
    this.#context = context;
    this.#job = job;
    this.#root = job.root;
    this.#signal = signal;
    this.#slices = new Slices(signal);
    const bytes = job.plan.set.reduce((sum, entry) => sum + (entry.type === "file" ? entry.size : 0), 0);
    this.#progress = new ProgressMeter(job.onProgress, bytes, context.clock);
  }

  endProgress(): void {
    this.#progress.end();
  }

  /** Records, those marked that were made within the last step of the file system's clock. */
  records(): FileRecords {
    const endMs = Date.now();
    for (const [path, record] of this.#records) {
      if (record.ctimeMs > endMs - TIME_STEP_MS) this.#records.set(path, { ...record, racy: true });
    }
    return this.#records;
  }

  async remove(paths: readonly BytePath[]): Promise<void> {
    using directories = new DirectoryCache(this.#root);
    // A directory comes after what is below it, and takes along what the table never had.
    for (const path of [...paths].sort().reverse()) {
      try {
        await removeTree(directories.parentOf(path), bytesOfPath(nameOfPath(path)), this.#signal);
      } catch (error) {
        if (errnoOf(error) !== "ENOENT" && errnoOf(error) !== "ENOTDIR") throw error;
      }
      if (this.#slices.due()) await this.#slices.next();
    }
  }

  /** Directories first, open to nobody else until they have their own mode. */
  async makeDirectories(entries: readonly TableEntry[]): Promise<void> {
    using directories = new DirectoryCache(this.#root);
    const wanted = entries.filter((entry) => entry.type === "directory").sort(byPath);
    for (const { path } of wanted) {
      const parent = directories.parentOf(path);
      makeDirectory(parent, nameOfPath(path));
      if (this.#slices.due()) await this.#slices.next();
    }
  }

  async writeFiles(entries: readonly TableEntry[]): Promise<void> {
    const whole: FileEntry[] = [];
    const large: FileEntry[] = [];
    for (const entry of entries)
      if (entry.type === "file") (entry.chunks.length > 1 ? large : whole).push(entry);
    whole.sort(byPath);
    await this.#writeWholeFiles(whole);
    const memories = new Memories(rangeBytesMax(LARGE_RANGE_BYTES));
    await forEachBounded(large, LARGE_FILES_MAX, (entry) => this.#writeLargeFile(entry, memories));
  }

  async makeLinks(entries: readonly TableEntry[]): Promise<void> {
    using directories = new DirectoryCache(this.#root);
    for (const entry of entries) {
      if (entry.type !== "link") continue;
      this.#makeLink(directories, entry);
      if (this.#slices.due()) await this.#slices.next();
    }
  }

  /** Modes and times of directories last, the deepest first: work below a directory changes its time. */
  async finishDirectories(): Promise<void> {
    const { table, plan } = this.#job;
    const paths = new Set(plan.touched);
    for (const entry of plan.set) {
      if (entry.type === "directory") paths.add(entry.path);
      if (table.get(parentOfPath(entry.path))?.type === "directory") paths.add(parentOfPath(entry.path));
    }
    using directories = new DirectoryCache(this.#root);
    for (const path of [...paths].sort().reverse()) {
      const entry = table.get(path);
      if (entry?.type === "directory") this.#finishDirectory(directories, entry);
      if (this.#slices.due()) await this.#slices.next();
    }
  }

  /** Files of at most one chunk: frame by frame, in the threads where there are many. */
  async #writeWholeFiles(files: readonly FileEntry[]): Promise<void> {
    const { frames, empty } = groupByFrame(files);
    const bytes = files.reduce((sum, file) => sum + file.size, 0);
    const small = files.length <= SMALL_FILES && bytes <= SMALL_BYTES;
    if (empty.length > 0) {
      const nothing: FrameToWrite = { start: 0, length: 0, plainLength: 0, chunks: [emptyChunk(empty)] };
      await this.#write(Buffer.alloc(0), [nothing], empty.length <= SMALL_FILES);
    }
    const memories = small ? undefined : new Memories(rangeBytesMax(RANGE_BYTES));
    await forEachBounded(planRanges(frames.keys(), RANGE_BYTES), RANGES_MAX, async (range) => {
      await this.#readRange(range, memories, (content) =>
        this.#write(content, framesToWrite(range, frames), small),
      );
    });
  }

  async #writeLargeFile(entry: FileEntry, memories: Memories): Promise<void> {
    const file = toWrite(entry);
    using directories = new DirectoryCache(this.#root);
    const fd = createFile(directories.parentOf(entry.path).entryOfBytes(nameOfPath(entry.path)), entry.mode);
    try {
      const frames: WantedChunks = new Map();
      let position = 0;
      for (const chunk of entry.chunks) {
        chunkToWrite(frames, chunk).places.push({ fd, position });
        position += chunk.length;
      }
      const ranges = planRanges(frames.keys(), LARGE_RANGE_BYTES);
      // One after another: two threads that write to one file wait for each other, spinning, in the kernel.
      let written: Promise<void> = Promise.resolve();
      await forEachBounded(ranges, LARGE_FILE_RANGES_MAX, async (range) => {
        await this.#readRange(range, memories, (content) => {
          const write = () => this.#write(content, framesToWrite(range, frames), false);
          written = written.then(write, write);
          return written;
        });
      });
      finishFile(fd, file, this.#job.owner);
      this.#records.set(entry.path, recordOf(fstatSync(fd), 0));
    } finally {
      closeSync(fd);
    }
  }

  async #readRange(
    range: FrameRange,
    memories: Memories | undefined,
    use: (content: Buffer) => Promise<void>,
  ): Promise<void> {
    const { ref, commit } = this.#job;
    const memory = memories?.take();
    try {
      await useRange(this.#context, ref, commit, range, this.#signal, use, memory);
    } finally {
      if (memory !== undefined) memories?.giveBack(memory);
    }
  }

  async #write(content: Buffer, frames: readonly FrameToWrite[], here: boolean): Promise<void> {
    const { root, owner } = this.#job;
    const written = here
      ? writeFrames(root, content, frames, owner)
      : await this.#context.threads.write(root.fd, content, frames, owner, this.#signal);
    let at = 0;
    for (const frame of frames) {
      for (const chunk of frame.chunks) {
        this.#progress.add(chunk.length * (chunk.files.length + chunk.places.length));
        for (const file of chunk.files) {
          this.#records.set(file.path, recordOfWritten(written, at));
          at += WRITTEN_VALUES;
        }
      }
    }
  }

  #makeLink(directories: DirectoryCache, link: LinkEntry): void {
    const at = directories.parentOf(link.path).entryOfBytes(nameOfPath(link.path));
    try {
      symlinkSync(bytesOfPath(link.target), at);
    } catch (error) {
      if (errnoOf(error) !== "EEXIST") throw error;
      unlinkSync(at);
      symlinkSync(bytesOfPath(link.target), at);
    }
    if (this.#job.owner !== undefined) lchownSync(at, this.#job.owner.uid, this.#job.owner.gid);
    const mtime = timeOf(link);
    lutimesSync(at, mtime, mtime);
    this.#records.set(link.path, recordOf(lstatSync(at), 0));
  }

  #finishDirectory(directories: DirectoryCache, entry: DirectoryEntry): void {
    const at = directories.parentOf(entry.path).entryOfBytes(nameOfPath(entry.path));
    const fd = openSync(at, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    try {
      if (this.#job.owner !== undefined) fchownSync(fd, this.#job.owner.uid, this.#job.owner.gid);
      fchmodSync(fd, entry.mode);
      const mtime = timeOf(entry);
      futimesSync(fd, mtime, mtime);
      this.#records.set(entry.path, recordOf(fstatSync(fd), 0));
    } finally {
      closeSync(fd);
    }
  }
}

/** Memory for ranges, shared with the threads. Used again and again: to get and to give back so many bytes takes as long as to read them. */
class Memories {
  readonly #bytes: number;
  readonly #unused: Buffer[] = [];

  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  take(): Buffer {
    return this.#unused.pop() ?? Buffer.from(new SharedArrayBuffer(this.#bytes));
  }

  giveBack(memory: Buffer): void {
    this.#unused.push(memory);
  }
}

/** Makes a directory, unless it is there; what else stands there, a FIFO that no scan reports, is removed. */
function makeDirectory(parent: DirectoryDescriptor, name: BytePath): void {
  const at = parent.entryOfBytes(name);
  try {
    mkdirSync(at, { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
    if (lstatSync(at).isDirectory()) return;
    unlinkSync(at);
    mkdirSync(at, { mode: 0o700 });
  }
}

interface ChunkToWrite {
  readonly hash: string;
  readonly offset: number;
  readonly length: number;
  readonly files: FileToWrite[];
  readonly places: PlaceToWrite[];
}

/** The chunks that are wanted of each frame, by what and where they are. */
type WantedChunks = Map<Frame, Map<string, ChunkToWrite>>;

function framesToWrite(range: FrameRange, wanted: WantedChunks): FrameToWrite[] {
  return range.frames.map((frame) => ({
    start: frame.offset - range.start,
    length: frame.length,
    plainLength: frame.plainLength,
    chunks: [...(wanted.get(frame)?.values() ?? [])],
  }));
}

function groupByFrame(files: readonly FileEntry[]): {
  frames: WantedChunks;
  empty: FileToWrite[];
} {
  const frames: WantedChunks = new Map();
  const empty: FileToWrite[] = [];
  for (const entry of files) {
    const [chunk] = entry.chunks;
    if (chunk === undefined) empty.push(toWrite(entry));
    else chunkToWrite(frames, chunk).files.push(toWrite(entry));
  }
  return { frames, empty };
}

function chunkToWrite(frames: WantedChunks, chunk: Chunk): ChunkToWrite {
  let chunks = frames.get(chunk.frame);
  if (chunks === undefined) {
    chunks = new Map();
    frames.set(chunk.frame, chunks);
  }
  // By place as well as by hash: the table may say two things of one hash, and both are verified.
  const name = `${chunk.offset} ${chunk.length} ${chunk.hash}`;
  let wanted = chunks.get(name);
  if (wanted === undefined) {
    wanted = { hash: chunk.hash, offset: chunk.offset, length: chunk.length, files: [], places: [] };
    chunks.set(name, wanted);
  }
  return wanted;
}

/** SHA-256 of nothing, as a string of bytes. */
const EMPTY_HASH = Buffer.from(
  "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  "hex",
).toString("latin1");

function emptyChunk(files: FileToWrite[]): ChunkToWrite {
  return { hash: EMPTY_HASH, offset: 0, length: 0, files, places: [] };
}

function toWrite(entry: FileEntry): FileToWrite {
  return { path: entry.path, mode: entry.mode, mtime: timeOf(entry) };
}

/**
 * As a float, which is what `utimes` takes: exact to a quarter of a microsecond only. So it is put into the middle of its
 * microsecond, where no rounding makes another one of it. Before 1970 as a string: Node.js takes a negative number for the
 * time of day.
 */
function timeOf(entry: TableEntry): number | string {
  const time = entry.mtimeSeconds + (Math.floor(entry.mtimeNanoseconds / 1000) + 0.5) / 1e6;
  return time < 0 ? String(time) : time;
}

function byPath(a: TableEntry, b: TableEntry): number {
  return a.path < b.path ? -1 : 1;
}

function recordOfWritten(written: WrittenFiles, at: number): FileRecord {
  return {
    inode: written[at] ?? 0,
    ctimeMs: written[at + 1] ?? 0,
    mtimeMs: written[at + 2] ?? 0,
    size: written[at + 3] ?? 0,
    mode: written[at + 4] ?? 0,
    racy: false,
  };
}
