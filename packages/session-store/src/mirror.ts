import type { DirectoryDescriptor } from "@longshore/shared";
import type { BytePath } from "./format/byte-path.ts";
import type { Commit } from "./format/commit.ts";
import type { FileTable } from "./format/file-table.ts";
import { CHUNK_BYTES } from "./format/limits.ts";
import type { Chunk, FileEntry, TableDelta, TableEntry } from "./format/table-entry.ts";
import { sameEntry } from "./format/table-entry.ts";
import type { DirectoryRef } from "./keys.ts";
import { type FrameSlot, PackWriter } from "./pack-writer.ts";
import { type ProgressListener, ProgressMeter } from "./progress.ts";
import type { StoreContext } from "./store-context.ts";
import { compilePatterns } from "./tree/exclusions.ts";
import type { FileRecord, FileRecords } from "./tree/file-record.ts";
import { type FileToPack, type PackedFile, type PackedFrame, packFiles } from "./tree/pack-files.ts";
import { type LeftOut, type Quota, type Scan, type ScannedEntry, scanTree } from "./tree/scan.ts";

export interface MirrorOptions {
  /** Glob patterns of paths that are left out, from the session directory. @default none */
  readonly exclude?: readonly string[];
  /** @default only the format's own limits */
  readonly quota?: Quota;
  /** Called once nothing of the tree will be read any more: a paused sandbox may go on. Not called after an error. */
  readonly onRead?: () => void;
  /** Told how much of the changed files was read. */
  readonly onProgress?: ProgressListener;
  readonly signal?: AbortSignal | undefined;
}

/** What a session directory held at one moment, stored, and visible to nobody until it is committed. */
export interface Mirror {
  /** The generation it was compared with, and the only one that a commit of it can build on. */
  readonly base: Commit | undefined;
  /** Paths that are new or changed, and that are gone. */
  readonly changed: number;
  readonly removed: number;
  /** Nothing is different from the base. */
  readonly isEmpty: boolean;
  /** Entries and bytes of content in the whole directory. */
  readonly entries: number;
  readonly totalBytes: number;
  /** Bytes of content that were read and were new. */
  readonly newBytes: number;
  /** What is no part of a generation (at most a hundred are named), and how many there are. */
  readonly leftOut: readonly LeftOut[];
  readonly leftOutCount: number;
}

/** A mirror with what only a commit needs. */
export interface MirrorContent extends Mirror {
  readonly delta: TableDelta;
  readonly inline: Buffer;
  readonly packs: number;
  readonly storedMs: number | undefined;
  /** New records by path; undefined: the path is gone. */
  readonly records: ReadonlyMap<BytePath, FileRecord | undefined>;
}

/** Up to this much is read on the main thread: handing it to another one takes longer. */
const SMALL_FILES = 32;
const SMALL_BYTES = 512 * 1024;

/** Below this many bytes to read, files are compared with their own last content only, not with all chunks of the session. */
const DEDUPLICATE_FROM_BYTES = 1024 * 1024;

/** Walks a session tree and stores what is new in it. @throws QuotaExceededError and the errors of the store */
export async function makeMirror(
  context: StoreContext,
  ref: DirectoryRef,
  root: DirectoryDescriptor,
  base: Commit | undefined,
  table: FileTable,
  records: FileRecords,
  options: MirrorOptions,
): Promise<MirrorContent> {
  const { signal, quota } = options;
  const scan = await scanTree(root, context.threads, records, {
    exclude: compilePatterns(options.exclude ?? []),
    quota,
    signal,
  });
  const writer = new PackWriter(context, ref, signal);
  try {
    const packed = await packChanged(context, root, scan, table, writer, options);
    options.onRead?.();
    const inline = await writer.finish((base?.generation ?? 0) + 1);
    return {
      base,
      ...describeChange(scan, packed, table),
      inline,
      packs: writer.packs,
      storedMs: writer.storedMs,
    };
  } catch (error) {
    await writer.abandon();
    throw error;
  }
}

/** A file that was packed, or a part of a large one, and where its frames are. */
interface Packed {
  readonly file: PackedFile;
  readonly slots: readonly FrameSlot[];
}

interface PackedFiles {
  /** The parts of each file, in any order. */
  readonly files: ReadonlyMap<BytePath, readonly Packed[]>;
  readonly chunkOf: (hash: string) => Chunk | undefined;
}

async function packChanged(
  context: StoreContext,
  root: DirectoryDescriptor,
  scan: Scan,
  table: FileTable,
  writer: PackWriter,
  { onProgress, signal }: MirrorOptions,
): Promise<PackedFiles> {
  const files: FileToPack[] = [];
  let bytes = 0;
  for (const { type, path, size, record } of scan.changed) {
    if (type !== "file") continue;
    files.push({ path, start: 0, end: size, size, ctimeMs: record.ctimeMs });
    bytes += size;
  }
  const known = knownChunks(
    table,
    bytes < DEDUPLICATE_FROM_BYTES ? files.map((file) => file.path) : undefined,
  );
  const packed = new Map<BytePath, Packed[]>();
  const progress = new ProgressMeter(onProgress, bytes, context.clock);
  if (files.length <= SMALL_FILES && bytes <= SMALL_BYTES) {
    const collector = new Collector(writer, packed, progress);
    for (const item of packFiles(root, files, new Set(known.keys()))) await collector.take(item);
  } else {
    const hashes = Buffer.from([...known.keys()].join(""), "latin1");
    const parts = dividedByBytes(files, bytes, context.threads.limit);
    const jobs = parts.map((part) => {
      const collector = new Collector(writer, packed, progress);
      return context.threads.pack(root.fd, part, hashes, (item) => collector.take(item), signal);
    });
    // All of them have to be over before the descriptor may be closed.
    const failed = (await Promise.allSettled(jobs)).find((job) => job.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }
  progress.end();
  return { files: packed, chunkOf: (hash) => known.get(hash) };
}

/** Takes the results of one run of `packFiles`, whose frames are numbered from 0. */
class Collector {
  readonly #writer: PackWriter;
  readonly #packed: Map<BytePath, Packed[]>;
  readonly #progress: ProgressMeter;
  readonly #slots: FrameSlot[] = [];

  constructor(writer: PackWriter, packed: Map<BytePath, Packed[]>, progress: ProgressMeter) {
    this.#writer = writer;
    this.#packed = packed;
    this.#progress = progress;
  }

  take(item: PackedFile | PackedFrame): Promise<void> | undefined {
    if (item.kind === "file") {
      const part = { file: item, slots: this.#slots };
      const parts = this.#packed.get(item.path);
      if (parts === undefined) this.#packed.set(item.path, [part]);
      else parts.push(part);
      this.#progress.add(item.size);
      return undefined;
    }
    const { slot, wait } = this.#writer.add(item);
    this.#slots.push(slot);
    return wait;
  }
}

/**
 * Chunks that need not be stored again: those of the parent's table, and of nothing else. A chunk that only a cache or an
 * older generation knows may lie in a pack that was collected meanwhile.
 */
function knownChunks(table: FileTable, paths: readonly BytePath[] | undefined): Map<string, Chunk> {
  const known = new Map<string, Chunk>();
  for (const entry of paths === undefined ? table.entries() : paths.map((path) => table.get(path))) {
    if (entry?.type === "file") for (const chunk of entry.chunks) known.set(chunk.hash, chunk);
  }
  return known;
}

/** Cuts a list of files into parts of about the same number of bytes, in order; a large file may be cut, too. */
function dividedByBytes(files: readonly FileToPack[], bytes: number, parts: number): FileToPack[][] {
  const share = bytes / parts;
  const divided: FileToPack[][] = [];
  let current: FileToPack[] = [];
  let filled = 0;
  for (const file of files) {
    let { start } = file;
    do {
      const room = share * (divided.length + 1) - filled;
      const isLast = divided.length === parts - 1;
      const length = isLast ? file.size : Math.max(1, Math.ceil(room / CHUNK_BYTES)) * CHUNK_BYTES;
      const end = Math.min(file.end, start + length);
      current.push({ ...file, start, end });
      filled += end - start;
      start = end;
      if (isLast || filled < share * (divided.length + 1)) continue;
      divided.push(current);
      current = [];
    } while (start < file.end);
  }
  if (current.length > 0) divided.push(current);
  return divided;
}

function describeChange(
  scan: Scan,
  packed: PackedFiles,
  table: FileTable,
): Omit<MirrorContent, "base" | "inline" | "packs" | "storedMs"> {
  const set: TableEntry[] = [];
  const removed = scan.removed.filter((path) => table.has(path));
  const records = new Map<BytePath, FileRecord | undefined>(scan.removed.map((path) => [path, undefined]));
  let newBytes = 0;
  for (const scanned of scan.changed) {
    const parts = [...(packed.files.get(scanned.path) ?? [])].sort((a, b) => a.file.start - b.file.start);
    if (scanned.type === "file" && !parts.every(({ file }) => file.chunks !== undefined)) {
      // Gone, or another thing, since the walk: to be seen for what it is by the next mirror.
      if (table.has(scanned.path)) removed.push(scanned.path);
      records.set(scanned.path, undefined);
      continue;
    }
    const entry = entryOf(scanned, parts, packed.chunkOf);
    const disturbed = parts.some(({ file }) => file.disturbed);
    records.set(scanned.path, disturbed ? { ...scanned.record, racy: true } : scanned.record);
    const before = table.get(scanned.path);
    if (before === undefined || !sameEntry(before, entry)) set.push(entry);
    for (const { file } of parts)
      for (const chunk of file.chunks ?? []) if (chunk.frame >= 0) newBytes += chunk.length;
  }
  return {
    delta: { set, removed },
    records,
    changed: set.length,
    removed: removed.length,
    isEmpty: set.length === 0 && removed.length === 0,
    entries: scan.entries,
    totalBytes: scan.totalBytes,
    newBytes,
    leftOut: scan.leftOut,
    leftOutCount: scan.leftOutCount,
  };
}

function entryOf(
  scanned: ScannedEntry,
  parts: readonly Packed[],
  chunkOf: PackedFiles["chunkOf"],
): TableEntry {
  const { path, mode, mtimeSeconds, mtimeNanoseconds } = scanned;
  const base = { path, mode, mtimeSeconds, mtimeNanoseconds };
  if (scanned.type === "directory") return { ...base, type: "directory" };
  if (scanned.type === "link") return { ...base, type: "link", target: scanned.target };
  const entry: FileEntry = {
    ...base,
    type: "file",
    size: parts.reduce((sum, { file }) => sum + file.size, 0),
    chunks: parts.flatMap(({ file, slots }) =>
      (file.chunks ?? []).map((chunk) => {
        if (chunk.frame < 0) {
          const known = chunkOf(chunk.hash);
          if (known === undefined) throw new Error("a chunk is said to be known and is not");
          return known;
        }
        const frame = slots[chunk.frame]?.frame;
        if (frame === undefined) throw new Error("a frame was never placed");
        return { hash: chunk.hash, length: chunk.length, offset: chunk.offset, frame };
      }),
    ),
  };
  return entry;
}
