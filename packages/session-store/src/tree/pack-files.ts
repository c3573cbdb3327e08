// biome-ignore-all lint/style/noRestrictedImports: names are used below a descriptor of their directory, as SessionTree does

import { hash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync, type Stats } from "node:fs";
import { type DirectoryDescriptor, errnoOf, READ_FLAGS } from "@longshore/shared/session-tree";
import { type BytePath, nameOfPath } from "../format/byte-path.ts";
import { CHUNK_BYTES, FRAME_BYTES, FRAME_BYTES_MAX } from "../format/limits.ts";
import { DirectoryCache } from "./directory-cache.ts";
import { packFrame } from "./frame-codec.ts";

/** A file whose content is to be read, or a part of a large one. */
export interface FileToPack {
  readonly path: BytePath;
  /** First byte of the part, a multiple of the chunk size, and the one after the last. */
  readonly start: number;
  readonly end: number;
  /** When it was looked at; no more is read than it had then. */
  readonly size: number;
  readonly ctimeMs: number;
}

/** A chunk of a packed file. */
export interface PackedChunk {
  readonly hash: string;
  readonly length: number;
  /** The number of the frame it is in, counted from 0 in this run; -1: its bytes are known already. */
  readonly frame: number;
  readonly offset: number;
}

/** What became of one file, or of a part of it. */
export interface PackedFile {
  readonly kind: "file";
  readonly path: BytePath;
  readonly start: number;
  /** Undefined when it is no regular file any more. */
  readonly chunks: readonly PackedChunk[] | undefined;
  /** What was read, in bytes. */
  readonly size: number;
  /** It was written to while it was read: what was read may be of no one moment. */
  readonly disturbed: boolean;
}

/** A frame that is complete. */
export interface PackedFrame {
  readonly kind: "frame";
  /** Valid until the next item is asked for. */
  readonly packed: Uint8Array;
  readonly plainLength: number;
}

/**
 * Reads files, cuts them into chunks, and packs the chunks that are not known into frames. Synchronous, a step at a
 * time: runs in a thread, or on the main one for a few small files. Memory: two frames and a chunk.
 *
 * Files are opened without following a link or waiting for a FIFO (I8). Each file's result comes before the frame that
 * holds its last chunks may be complete; the last frame comes at the end.
 */
export function* packFiles(
  root: DirectoryDescriptor,
  files: readonly FileToPack[],
  known: ReadonlySet<string>,
): Generator<PackedFile | PackedFrame> {
  using directories = new DirectoryCache(root);
  const frames = new FrameBuilder(known);
  for (const file of files) {
    const { path, start, end } = file;
    const fd = openFile(directories, path);
    if (fd === undefined) {
      yield { kind: "file", path, start, chunks: undefined, size: 0, disturbed: true };
      continue;
    }
    try {
      const chunks: PackedChunk[] = [];
      let at = start;
      let ended = false;
      while (at < end && !ended) {
        if (frames.isFull) yield frames.take();
        const space = frames.space(Math.min(CHUNK_BYTES, end - at));
        const length = readFully(fd, space, at);
        ended = length < space.length;
        if (length > 0) chunks.push(frames.add(length));
        at += length;
      }
      const disturbed = ended || isDisturbed(fstatSync(fd), file);
      yield { kind: "file", path, start, chunks, size: at - start, disturbed };
    } finally {
      closeSync(fd);
    }
  }
  if (!frames.isEmpty) yield frames.take();
}

/** Collects chunks into a frame. */
export class FrameBuilder {
  readonly #known: ReadonlySet<string>;
  readonly #made = new Map<string, PackedChunk>();
  readonly #plain = Buffer.allocUnsafeSlow(FRAME_BYTES_MAX);
  #length = 0;
  #number = 0;

  constructor(known: ReadonlySet<string>) {
    this.#known = known;
  }

  get isEmpty(): boolean {
    return this.#length === 0;
  }

  get isFull(): boolean {
    return this.#length >= FRAME_BYTES;
  }

  /** Room for a chunk at the frame's end. */
  space(length: number): Buffer {
    return this.#plain.subarray(this.#length, this.#length + length);
  }

  /** Takes what was written into the room as a chunk; one whose bytes are known takes no room. */
  add(length: number): PackedChunk {
    const digest = hash("sha256", this.#plain.subarray(this.#length, this.#length + length), "binary");
    const made = this.#made.get(digest);
    if (made !== undefined && made.length === length) return made;
    if (this.#known.has(digest)) return { hash: digest, length, frame: -1, offset: 0 };
    const chunk = { hash: digest, length, frame: this.#number, offset: this.#length };
    this.#made.set(digest, chunk);
    this.#length += length;
    return chunk;
  }

  take(): PackedFrame {
    const plain = this.#plain.subarray(0, this.#length);
    this.#number++;
    this.#length = 0;
    return { kind: "frame", packed: packFrame(plain), plainLength: plain.length };
  }
}

function openFile(directories: DirectoryCache, path: BytePath): number | undefined {
  let fd: number;
  try {
    fd = openSync(directories.parentOf(path).entryOfBytes(nameOfPath(path)), READ_FLAGS);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOENT" || errno === "ENOTDIR" || errno === "ELOOP" || errno === "ENXIO") return undefined;
    throw error;
  }
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  return undefined;
}

function isDisturbed(stats: Stats, file: FileToPack): boolean {
  return stats.size !== file.size || stats.ctimeMs !== file.ctimeMs;
}

function readFully(fd: number, into: Buffer, position: number): number {
  let done = 0;
  while (done < into.length) {
    const count = readSync(fd, into, done, into.length - done, position + done);
    if (count === 0) break;
    done += count;
  }
  return done;
}
