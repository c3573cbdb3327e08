import { ChunkCache } from "./cache/chunk-cache.ts";
import { readCommit } from "./commit-log.ts";
import { CorruptObjectError } from "./errors.ts";
import type { Commit } from "./format/commit.ts";
import { FRAME_BYTES_MAX, PACK_BYTES } from "./format/limits.ts";
import { type Frame, type FrameSource, sourceName } from "./format/table-entry.ts";
import { type DirectoryRef, ownerOfSource, sourceKey } from "./keys.ts";
import type { StoreContext } from "./store-context.ts";
import { BadFrameError, packedBytesMax } from "./tree/frame-codec.ts";

/** Frames with less between them than this are read at once, gap included: cheaper than another request. */
const GAP_BYTES = 64 * 1024;

/** Longest range of many small files, but for one frame that is longer: what comes first is written while the rest comes. */
export const RANGE_BYTES = 2 * 1024 * 1024;

/** Longest range of a large file: a pack, since a request costs as much as a few hundred KiB. */
export const LARGE_RANGE_BYTES = PACK_BYTES;

/** No range of a pack that was planned with a length is longer than this, in bytes. */
export function rangeBytesMax(longest: number): number {
  return Math.max(longest, packedBytesMax(FRAME_BYTES_MAX));
}

/** Frames of one object that are read with one request. */
export interface FrameRange {
  readonly source: FrameSource;
  readonly start: number;
  readonly end: number;
  /** In the order of their offsets. */
  readonly frames: readonly Frame[];
}

/** Joins frames into ranges: per source, in the order of their offsets. @param longest range of a pack, in bytes */
export function planRanges(frames: Iterable<Frame>, longest = RANGE_BYTES): FrameRange[] {
  const sources = new Map<string, Frame[]>();
  for (const frame of frames) {
    const name = sourceName(frame.source);
    const list = sources.get(name);
    if (list === undefined) sources.set(name, [frame]);
    else list.push(frame);
  }
  const ranges: FrameRange[] = [];
  for (const list of sources.values()) {
    list.sort((a, b) => a.offset - b.offset);
    let range: { source: FrameSource; start: number; end: number; frames: Frame[] } | undefined;
    for (const frame of list) {
      const end = frame.offset + frame.length;
      if (
        range === undefined ||
        frame.offset > range.end + GAP_BYTES ||
        // The inline part of a record is read whole, with the record.
        (frame.source.kind === "pack" && end - range.start > longest)
      ) {
        range = { source: frame.source, start: frame.offset, end, frames: [] };
        ranges.push(range);
      }
      range.frames.push(frame);
      range.end = Math.max(range.end, end);
    }
  }
  return ranges;
}

/**
 * Gives the bytes of a range to whoever unpacks and verifies them. They come from the host's chunk cache as far as they are
 * there; where what came from there proves to be wrong it is removed, and all is fetched anew.
 *
 * @param commit the record at hand, whose own inline part need not be read again
 * @param memory for the bytes of a pack, long enough for any range as planned; without it, their memory is that of whoever uses them
 * @param use throws BadFrameError for bytes that are not those of the frames, and may then be called a second time
 * @throws CorruptObjectError when the store has other bytes than the table says
 */
export async function useRange<T>(
  context: StoreContext,
  ref: DirectoryRef,
  commit: Commit | undefined,
  range: FrameRange,
  signal: AbortSignal | undefined,
  use: (bytes: Buffer) => T | Promise<T>,
  memory?: Buffer,
): Promise<T> {
  const key = sourceKey(ref, range.source);
  const cache = range.source.kind === "pack" ? context.cache : undefined;
  const names = range.frames.map((frame) => frameName(context, key, frame));
  if (cache !== undefined) {
    const bytes = await readCached(context, cache, key, range, names, memory, signal);
    try {
      if (bytes !== undefined) return await use(bytes);
    } catch (error) {
      if (!(error instanceof BadFrameError)) throw error;
      cache.drop(names);
    }
  }
  const bytes = await readRange(context, ref, commit, range, memory, signal);
  if (cache !== undefined) keep(cache, bytes, range, range.frames, names);
  try {
    return await use(bytes);
  } catch (error) {
    if (!(error instanceof BadFrameError)) throw error;
    cache?.drop(names);
    throw new CorruptObjectError(key, error.message, error);
  }
}

/** The name of a frame of a pack in a chunk cache. */
export function frameName(context: StoreContext, key: string, frame: Frame): string {
  return ChunkCache.nameOf(context.backend.url, key, frame.offset, frame.length);
}

/** A range of which at least a part is in the cache, the rest of it fetched; undefined where nothing is. */
async function readCached(
  context: StoreContext,
  cache: ChunkCache,
  key: string,
  range: FrameRange,
  names: readonly string[],
  memory: Buffer | undefined,
  signal: AbortSignal | undefined,
): Promise<Buffer | undefined> {
  if (!range.frames.some((frame, at) => cache.has(names[at] ?? "", frame.length))) return undefined;
  const length = range.end - range.start;
  // Not out of Node's pool: its memory is handed to a thread as it is.
  const bytes = memory?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length);
  const missing: Frame[] = [];
  await Promise.all(
    range.frames.map(async (frame, at) => {
      const start = frame.offset - range.start;
      const into = bytes.subarray(start, start + frame.length);
      if (!(await cache.readInto(names[at] ?? "", into))) missing.push(frame);
    }),
  );
  await Promise.all(
    planRanges(missing).map(async (part) => {
      const { start, end } = part;
      const fetched = await context.backend.get(key, { range: { start, end }, signal });
      fetched.copy(bytes, start - range.start);
      const partNames = part.frames.map((frame) => frameName(context, key, frame));
      keep(cache, fetched, part, part.frames, partNames);
    }),
  );
  return bytes;
}

/** Hands fetched frames to the cache: copies, because the memory is about to be another thread's. */
function keep(
  cache: ChunkCache,
  bytes: Buffer,
  { start }: FrameRange,
  frames: readonly Frame[],
  names: readonly string[],
): void {
  for (const [at, frame] of frames.entries()) {
    const offset = frame.offset - start;
    cache.missed(frame.length);
    cache.put(names[at] ?? "", Buffer.from(bytes.subarray(offset, offset + frame.length)));
  }
}

async function readRange(
  context: StoreContext,
  ref: DirectoryRef,
  commit: Commit | undefined,
  range: FrameRange,
  memory: Buffer | undefined,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const { source, start, end } = range;
  const key = sourceKey(ref, source);
  if (source.kind === "pack") {
    const into = memory?.subarray(0, end - start);
    return await context.backend.get(key, { range: { start, end }, into, signal });
  }
  const { generation } = source;
  const holder =
    source.session === undefined && generation === commit?.generation
      ? commit
      : await readCommit(context, ownerOfSource(ref, source), generation, signal);
  if (end > holder.inline.length) throw new CorruptObjectError(key, "its inline content ends early");
  return holder.inline.subarray(start, end);
}
