import { type BytePath, depthOfPath } from "./byte-path.ts";
import { type ByteReader, MalformedBytesError } from "./byte-reader.ts";
import type { ByteWriter } from "./byte-writer.ts";
import {
  CHUNK_BYTES,
  DEPTH_MAX,
  FRAME_BYTES_MAX,
  NAME_BYTES_MAX,
  PACK_ID_BYTES,
  PATH_BYTES_MAX,
} from "./limits.ts";
import { isStoreName } from "./store-name.ts";
import {
  type Chunk,
  type Frame,
  type FrameSource,
  sourceName,
  type TableDelta,
  type TableEntry,
} from "./table-entry.ts";

// Layout: sources, frames (with a source's number), entries in the order of their paths (each path as the length it
// shares with the one before and the rest), removed paths. All integers are LEB128.

const TYPE_FILE = 0;
const TYPE_DIRECTORY = 1;
const TYPE_LINK = 2;

const SOURCE_PACK = 0;
const SOURCE_LOG = 1;
/** Added to the kind, and followed by the id of the session whose object it is. */
const SOURCE_FOREIGN = 2;

const HASH_BYTES = 32;

/** A packed frame of incompressible bytes is a little longer than they are. */
const FRAME_OVERHEAD_MAX = 64 * 1024;

/** Writes entries and removed paths. A full table is a delta against nothing. */
export function encodeDelta(writer: ByteWriter, delta: TableDelta): void {
  const entries = [...delta.set].sort((a, b) => (a.path < b.path ? -1 : 1));
  const sources = new Map<string, number>();
  const frames = new Map<Frame, number>();
  const sourceList: FrameSource[] = [];
  for (const entry of entries) {
    if (entry.type !== "file") continue;
    for (const { frame } of entry.chunks) {
      if (frames.has(frame)) continue;
      frames.set(frame, frames.size);
      const name = sourceName(frame.source);
      if (sources.has(name)) continue;
      sources.set(name, sourceList.length);
      sourceList.push(frame.source);
    }
  }
  writer.integer(sourceList.length);
  for (const source of sourceList) encodeSource(writer, source);
  writer.integer(frames.size);
  for (const frame of frames.keys()) {
    writer.integer(sources.get(sourceName(frame.source)) ?? 0);
    writer.integer(frame.offset);
    writer.integer(frame.length);
    writer.integer(frame.plainLength);
  }
  writer.integer(entries.length);
  let previous = "";
  for (const entry of entries) {
    const shared = sharedLength(previous, entry.path);
    writer.integer(shared);
    writer.integer(entry.path.length - shared);
    writer.latin1(shared === 0 ? entry.path : entry.path.slice(shared));
    previous = entry.path;
    encodeEntry(writer, entry, frames);
  }
  writer.integer(delta.removed.length);
  for (const path of delta.removed) {
    writer.integer(path.length);
    writer.latin1(path);
  }
}

function encodeSource(writer: ByteWriter, source: FrameSource): void {
  const kind = source.kind === "pack" ? SOURCE_PACK : SOURCE_LOG;
  if (source.session === undefined) writer.byte(kind);
  else {
    writer.byte(kind + SOURCE_FOREIGN);
    writer.integer(source.session.length);
    writer.latin1(source.session);
  }
  if (source.kind === "pack") writer.bytes(Buffer.from(source.id, "hex"));
  else writer.integer(source.generation);
}

function encodeEntry(writer: ByteWriter, entry: TableEntry, frames: ReadonlyMap<Frame, number>): void {
  writer.byte(entry.type === "file" ? TYPE_FILE : entry.type === "directory" ? TYPE_DIRECTORY : TYPE_LINK);
  writer.integer(entry.mode);
  // Times before 1970 are rare but real; zigzag keeps small negative numbers small.
  writer.integer(entry.mtimeSeconds < 0 ? -entry.mtimeSeconds * 2 - 1 : entry.mtimeSeconds * 2);
  writer.integer(entry.mtimeNanoseconds);
  if (entry.type === "link") {
    writer.integer(entry.target.length);
    writer.latin1(entry.target);
  }
  if (entry.type !== "file") return;
  writer.integer(entry.size);
  writer.integer(entry.chunks.length);
  for (const chunk of entry.chunks) {
    writer.integer(frames.get(chunk.frame) ?? 0);
    writer.integer(chunk.offset);
    writer.integer(chunk.length);
    writer.latin1(chunk.hash);
  }
}

/**
 * Reads what `encodeDelta` wrote, and refuses what it never writes: whoever can write to the store must not be able to
 * make a host write outside of a session directory, or unpack a frame without bound.
 *
 * That every path's parent is a directory can only be seen in a whole table: `FileTable.check`.
 */
export function decodeDelta(reader: ByteReader): TableDelta {
  const sources = decodeSources(reader);
  const frames: Frame[] = [];
  for (let left = reader.count(4); left > 0; left--) frames.push(decodeFrame(reader, sources));
  const set: TableEntry[] = [];
  let previous = "";
  for (let left = reader.count(6); left > 0; left--) {
    const shared = reader.integer();
    if (shared > previous.length) throw new MalformedBytesError("a path shares more than there is");
    const path = previous.slice(0, shared) + reader.latin1(reader.count(1));
    if (set.length > 0 && path <= previous)
      throw new MalformedBytesError(`duplicate or unordered path ${show(path)}`);
    checkPath(path);
    set.push(decodeEntry(reader, path, frames));
    previous = path;
  }
  const removed: BytePath[] = [];
  for (let left = reader.count(1); left > 0; left--) {
    const path = reader.latin1(reader.count(1));
    checkPath(path);
    removed.push(path);
  }
  return { set, removed };
}

/** Reads only the beginning of a delta: all objects that hold content of its entries. */
export function decodeSources(reader: ByteReader): FrameSource[] {
  const sources: FrameSource[] = [];
  for (let left = reader.count(2); left > 0; left--) sources.push(decodeSource(reader));
  return sources;
}

function decodeSource(reader: ByteReader): FrameSource {
  const kind = reader.byte();
  if (kind >= 2 * SOURCE_FOREIGN) throw new MalformedBytesError(`unknown kind of source ${kind}`);
  const owner = kind < SOURCE_FOREIGN ? {} : { session: decodeSession(reader) };
  if (kind % SOURCE_FOREIGN === SOURCE_LOG) return { kind: "log", ...owner, generation: reader.integer() };
  return { kind: "pack", ...owner, id: reader.bytes(PACK_ID_BYTES).toString("hex") };
}

/** It becomes part of a key, so it must not be able to name anything but a session of this tenant. */
function decodeSession(reader: ByteReader): string {
  const session = reader.latin1(reader.count(1));
  if (!isStoreName(session)) throw new MalformedBytesError(`a source of the session ${show(session)}`);
  return session;
}

function decodeFrame(reader: ByteReader, sources: readonly FrameSource[]): Frame {
  const source = sources[reader.integer()];
  if (source === undefined) throw new MalformedBytesError("a frame of no source");
  const frame = { source, offset: reader.integer(), length: reader.integer(), plainLength: reader.integer() };
  if (frame.plainLength > FRAME_BYTES_MAX) {
    throw new MalformedBytesError(`a frame of ${frame.plainLength} bytes exceeds ${FRAME_BYTES_MAX}`);
  }
  if (frame.length > frame.plainLength + FRAME_OVERHEAD_MAX) {
    throw new MalformedBytesError(`a frame is packed into ${frame.length} bytes`);
  }
  return frame;
}

function decodeEntry(reader: ByteReader, path: BytePath, frames: readonly Frame[]): TableEntry {
  const type = reader.byte();
  const mode = reader.integer();
  if (mode > 0o777) throw new MalformedBytesError(`mode ${mode.toString(8)} of ${show(path)}`);
  const zigzag = reader.integer();
  const mtimeSeconds = zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2;
  const mtimeNanoseconds = reader.integer();
  if (mtimeNanoseconds > 999_999_999) throw new MalformedBytesError(`time of ${show(path)}`);
  const base = { path, mode, mtimeSeconds, mtimeNanoseconds };
  switch (type) {
    case TYPE_DIRECTORY:
      return { ...base, type: "directory" };
    case TYPE_LINK: {
      const target = reader.latin1(reader.count(1));
      if (target.length === 0 || target.length >= PATH_BYTES_MAX || target.includes("\0")) {
        throw new MalformedBytesError(`target of link ${show(path)}`);
      }
      return { ...base, type: "link", target };
    }
    case TYPE_FILE: {
      const size = reader.integer();
      const chunks: Chunk[] = [];
      let sum = 0;
      for (let left = reader.count(HASH_BYTES + 3); left > 0; left--) {
        const chunk = decodeChunk(reader, path, frames);
        sum += chunk.length;
        chunks.push(chunk);
      }
      if (sum !== size) throw new MalformedBytesError(`${show(path)} has ${size} bytes, its chunks ${sum}`);
      return { ...base, type: "file", size, chunks };
    }
    default:
      throw new MalformedBytesError(`unknown type ${type} of ${show(path)}`);
  }
}

function decodeChunk(reader: ByteReader, path: BytePath, frames: readonly Frame[]): Chunk {
  const frame = frames[reader.integer()];
  if (frame === undefined) throw new MalformedBytesError(`a chunk of ${show(path)} is in no frame`);
  const offset = reader.integer();
  const length = reader.integer();
  if (length === 0 || length > CHUNK_BYTES || offset + length > frame.plainLength) {
    throw new MalformedBytesError(`a chunk of ${show(path)} is outside of its frame`);
  }
  return { frame, offset, length, hash: reader.latin1(HASH_BYTES) };
}

function checkPath(path: BytePath): void {
  if (path.length === 0 || path.length > PATH_BYTES_MAX || path.includes("\0")) {
    throw new MalformedBytesError(`path ${show(path)}`);
  }
  if (depthOfPath(path) > DEPTH_MAX) throw new MalformedBytesError(`path ${show(path)} has too many parts`);
  for (const part of path.split("/")) {
    if (part === "" || part === "." || part === ".." || part.length > NAME_BYTES_MAX) {
      throw new MalformedBytesError(`path ${show(path)} has the part ${JSON.stringify(part.slice(0, 40))}`);
    }
  }
}

function sharedLength(a: string, b: string): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a.charCodeAt(length) === b.charCodeAt(length)) length++;
  return length;
}

function show(path: BytePath): string {
  return JSON.stringify(Buffer.from(path.slice(0, 200), "latin1").toString("utf8"));
}
