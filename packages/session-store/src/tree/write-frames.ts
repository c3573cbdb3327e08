// biome-ignore-all lint/style/noRestrictedImports: names are used below a descriptor of their directory, as SessionTree does

import { hash } from "node:crypto";
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  futimesSync,
  openSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { CREATE_FLAGS, type DirectoryDescriptor, errnoOf } from "@longshore/shared/session-tree";
import { type BytePath, nameOfPath } from "../format/byte-path.ts";
import { DirectoryCache } from "./directory-cache.ts";
import { BadFrameError, unpackFrame } from "./frame-codec.ts";

/** Host user and group of what is made. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** A file to make. */
export interface FileToWrite {
  readonly path: BytePath;
  readonly mode: number;
  /** Seconds since 1970, as `utimes` takes them. */
  readonly mtime: number | string;
}

/** A place in an open file of several chunks. */
export interface PlaceToWrite {
  readonly fd: number;
  readonly position: number;
}

/** A frame, the chunks in it that are needed, the files each of them is the whole content of, and its other places. */
export interface FrameToWrite {
  /** In the bytes that hold the frames. */
  readonly start: number;
  readonly length: number;
  readonly plainLength: number;
  readonly chunks: readonly {
    readonly hash: string;
    readonly offset: number;
    readonly length: number;
    readonly files: readonly FileToWrite[];
    readonly places: readonly PlaceToWrite[];
  }[];
}

/** What the file system says of a file that was written, five values each: inode, ctime and mtime in ms, size, mode. */
export type WrittenFiles = Float64Array<ArrayBuffer>;
export const WRITTEN_VALUES = 5;

/** How often a name that somebody else makes again is removed before we give up. */
const REPLACE_ATTEMPTS = 16;

/**
 * Unpacks frames, verifies every chunk, and only then writes it out as files. Synchronous: runs in a thread, or on the
 * main one for little. Files are made anew, below descriptors of their directories (I8); what stands at a name is
 * removed, never opened.
 *
 * @returns the records in the order of the frames, their chunks and the chunks' files
 * @throws BadFrameError
 */
export function writeFrames(
  root: DirectoryDescriptor,
  bytes: Buffer,
  frames: readonly FrameToWrite[],
  owner: Owner | undefined,
): WrittenFiles {
  using directories = new DirectoryCache(root);
  const count = frames.reduce(
    (sum, frame) => sum + frame.chunks.reduce((n, chunk) => n + chunk.files.length, 0),
    0,
  );
  const written = new Float64Array(count * WRITTEN_VALUES);
  let at = 0;
  for (const frame of frames) {
    const plain = unpackFrame(bytes.subarray(frame.start, frame.start + frame.length), frame.plainLength);
    for (const chunk of frame.chunks) {
      const content = plain.subarray(chunk.offset, chunk.offset + chunk.length);
      checkChunk(content, chunk.hash);
      for (const file of chunk.files) {
        writeFile(directories, file, content, owner, written, at);
        at += WRITTEN_VALUES;
      }
      for (const place of chunk.places) writeFully(place.fd, content, place.position);
    }
  }
  return written;
}

/** @throws BadFrameError when the bytes are not those of the hash */
export function checkChunk(content: Uint8Array, expected: string): void {
  if (hash("sha256", content, "binary") !== expected)
    throw new BadFrameError("a chunk has the wrong checksum");
}

const umask = process.umask();

function writeFile(
  directories: DirectoryCache,
  file: FileToWrite,
  content: Uint8Array,
  owner: Owner | undefined,
  written: WrittenFiles,
  at: number,
): void {
  const entry = directories.parentOf(file.path).entryOfBytes(nameOfPath(file.path));
  const fd = createFile(entry, file.mode);
  try {
    writeFully(fd, content, 0);
    finishFile(fd, file, owner);
    const stats = fstatSync(fd);
    written[at] = stats.ino;
    written[at + 1] = stats.ctimeMs;
    written[at + 2] = stats.mtimeMs;
    written[at + 3] = stats.size;
    written[at + 4] = stats.mode;
  } finally {
    closeSync(fd);
  }
}

/** Makes a file that did not exist, removing whatever has its name. @returns its descriptor, for writing */
export function createFile(entry: string | Buffer, mode: number): number {
  for (let attempt = 1; ; attempt++) {
    try {
      return openSync(entry, CREATE_FLAGS, mode);
    } catch (error) {
      if (errnoOf(error) !== "EEXIST" || attempt === REPLACE_ATTEMPTS) throw error;
      unlinkSync(entry);
    }
  }
}

/** Gives a file its owner, mode and time, in this order: each of the first two could undo the ones after. */
export function finishFile(fd: number, file: FileToWrite, owner: Owner | undefined): void {
  if (owner !== undefined) fchownSync(fd, owner.uid, owner.gid);
  if ((file.mode & umask) !== 0) fchmodSync(fd, file.mode);
  futimesSync(fd, file.mtime, file.mtime);
}

export function writeFully(fd: number, content: Uint8Array, position: number): void {
  let done = 0;
  while (done < content.length) done += writeSync(fd, content, done, content.length - done, position + done);
}
