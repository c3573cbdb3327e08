import type { BytePath } from "./byte-path.ts";

interface SourceBase {
  /** The session of the same tenant whose object it is, in a fork; without it, the directory's own. */
  readonly session?: string;
}

export interface PackSource extends SourceBase {
  readonly kind: "pack";
  /** 32 random bytes, lower-case hexadecimal. */
  readonly id: string;
}

export interface LogSource extends SourceBase {
  readonly kind: "log";
  readonly generation: number;
}

/** An object that holds frames: a pack, or the inline part of a commit record. */
export type FrameSource = PackSource | LogSource;

/** A text that is the same for the same source, and another one for any other. */
export function sourceName({ session = "", ...source }: FrameSource): string {
  return `${session}/${source.kind === "pack" ? source.id : source.generation}`;
}

/** A zstd frame: where it lies, and what it unpacks to. */
export interface Frame {
  readonly source: FrameSource;
  /** First byte in the source. In a commit record it counts from the beginning of its inline part. */
  readonly offset: number;
  /** Packed bytes. */
  readonly length: number;
  /** Unpacked bytes. */
  readonly plainLength: number;
}

/** A piece of a file's content. */
export interface Chunk {
  /** SHA-256 of the plain bytes, as a string of 32 bytes (Latin-1): half the memory of a Buffer, and can be a key. */
  readonly hash: string;
  readonly frame: Frame;
  /** First byte in the unpacked frame. */
  readonly offset: number;
  readonly length: number;
}

interface EntryBase {
  readonly path: BytePath;
  /** Permission bits, without set-id and sticky bits. */
  readonly mode: number;
  /** Modification time: seconds since 1970, may be negative, and nanoseconds from 0 to 999,999,999 after it. */
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
}

export interface FileEntry extends EntryBase {
  readonly type: "file";
  readonly size: number;
  readonly chunks: readonly Chunk[];
}

export interface DirectoryEntry extends EntryBase {
  readonly type: "directory";
}

export interface LinkEntry extends EntryBase {
  readonly type: "link";
  /** Where it points, in bytes; followed by nobody here. */
  readonly target: BytePath;
}

/** What a file table says of one path. */
export type TableEntry = FileEntry | DirectoryEntry | LinkEntry;

/** The difference between two tables. */
export interface TableDelta {
  /** Entries that are new or changed. */
  readonly set: readonly TableEntry[];
  /** Paths that are gone. A directory's contents are named one by one. */
  readonly removed: readonly BytePath[];
}

/**
 * Whether an entry is the same as another, as far as a restore can make them the same: times are compared to the
 * microsecond, or everything that was just restored would seem changed.
 */
export function sameEntry(a: TableEntry, b: TableEntry): boolean {
  if (a.type !== b.type || a.mode !== b.mode || a.mtimeSeconds !== b.mtimeSeconds) return false;
  if (Math.floor(a.mtimeNanoseconds / 1000) !== Math.floor(b.mtimeNanoseconds / 1000)) return false;
  if (a.type === "file" && b.type === "file") return sameContent(a, b);
  return a.type !== "link" || b.type !== "link" || a.target === b.target;
}

/** Whether two files have the same bytes. */
export function sameContent(a: FileEntry, b: FileEntry): boolean {
  if (a.size !== b.size || a.chunks.length !== b.chunks.length) return false;
  return a.chunks.every((chunk, index) => chunk.hash === b.chunks[index]?.hash);
}
