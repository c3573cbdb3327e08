import { forEachBounded } from "./bounded.ts";
import type { FileTable } from "./format/file-table.ts";
import {
  type Chunk,
  type FileEntry,
  type Frame,
  type FrameSource,
  sourceName,
  type TableEntry,
} from "./format/table-entry.ts";
import { type FrameRange, planRanges, useRange } from "./frame-ranges.ts";
import type { DirectoryRef } from "./keys.ts";
import { type FrameSlot, PackWriter } from "./pack-writer.ts";
import type { StoreContext } from "./store-context.ts";
import { unpackFrame } from "./tree/frame-codec.ts";
import { checkChunk } from "./tree/write-frames.ts";

/** A table names at most about this many small objects: a restore from nothing needs a request for each. */
const SMALL_SOURCES_MAX = 64;

/** A source is small when less than this of it is still used, in packed bytes. */
const SMALL_BYTES = 1024 * 1024;

/** Ranges that are read at once. */
const READS_MAX = 16;

/** What a table uses of an object. */
interface UsedSource {
  readonly source: FrameSource;
  /** By their offsets: two readers of one frame have an object each for it. */
  readonly frames: Map<number, Frame>;
  bytes: number;
}

/**
 * Packs anew what a table uses of small objects, if there are too many of them: the records of turns that changed a file
 * or two, packs of which little is left. Their frames are copied as they are. So a restore from nothing needs a bounded
 * number of requests, the old objects can be collected, and each byte is copied a few times only, since the next time is
 * due after as many small turns again.
 *
 * @param generation of the commit that is being made, whose own record is no object yet and is left alone
 * @returns the entries that name new places
 * @throws CorruptObjectError: a frame is not what the table says
 */
export async function repack(
  context: StoreContext,
  ref: DirectoryRef,
  table: FileTable,
  generation: number,
  signal: AbortSignal | undefined,
): Promise<TableEntry[]> {
  const small = smallSources(table, generation);
  if (small.size <= SMALL_SOURCES_MAX) return [];
  const entries = [...table.entries()].filter(
    (entry): entry is FileEntry =>
      entry.type === "file" && entry.chunks.some(({ frame }) => small.has(sourceName(frame.source))),
  );
  const chunks = chunksByFrame(entries);
  const slots = await copyFrames(context, ref, small, chunks, signal);
  return entries.map((entry) => ({
    ...entry,
    chunks: entry.chunks.map((chunk) => {
      const frame = slots.get(frameName(chunk.frame))?.frame;
      return frame === undefined ? chunk : { ...chunk, frame };
    }),
  }));
}

function smallSources(table: FileTable, generation: number): Map<string, UsedSource> {
  // Frames by identity first, of which there are far fewer names to be made than of chunks.
  const frames = new Set<Frame>();
  for (const entry of table.entries())
    if (entry.type === "file") for (const { frame } of entry.chunks) frames.add(frame);
  const used = new Map<string, UsedSource>();
  for (const frame of frames) {
    const name = sourceName(frame.source);
    const known = used.get(name) ?? { source: frame.source, frames: new Map<number, Frame>(), bytes: 0 };
    if (known.frames.has(frame.offset)) continue;
    known.frames.set(frame.offset, frame);
    known.bytes += frame.length;
    used.set(name, known);
  }
  used.delete(sourceName({ kind: "log", generation }));
  for (const [name, { bytes }] of used) if (bytes >= SMALL_BYTES) used.delete(name);
  return used;
}

async function copyFrames(
  context: StoreContext,
  ref: DirectoryRef,
  sources: ReadonlyMap<string, UsedSource>,
  chunks: ReadonlyMap<string, readonly Chunk[]>,
  signal: AbortSignal | undefined,
): Promise<Map<string, FrameSlot>> {
  const frames = [...sources.values()].flatMap((used) => [...used.frames.values()]);
  const slots = new Map<string, FrameSlot>();
  const writer = new PackWriter(context, ref, signal);
  try {
    await forEachBounded(planRanges(frames), READS_MAX, async (range) => {
      const copies = await useRange(context, ref, undefined, range, signal, (bytes) =>
        range.frames.map((frame) => ({
          frame,
          packed: copyOf(frame, range, bytes, chunks.get(frameName(frame)) ?? []),
        })),
      );
      for (const { frame, packed } of copies) {
        const { slot, wait } = writer.add({ kind: "frame", packed, plainLength: frame.plainLength });
        slots.set(frameName(frame), slot);
        await wait;
      }
    });
    await writer.finish();
  } catch (error) {
    await writer.abandon();
    throw error;
  }
  return slots;
}

/**
 * A packed frame in memory of its own. It is verified: what was damaged must not be made to last, for the object it came
 * from is going to be deleted.
 *
 * @throws BadFrameError
 */
function copyOf(
  frame: Frame,
  range: FrameRange,
  bytes: Buffer,
  chunks: readonly Chunk[],
): Buffer<ArrayBuffer> {
  const start = frame.offset - range.start;
  const packed = Buffer.from(bytes.subarray(start, start + frame.length));
  const plain = unpackFrame(packed, frame.plainLength);
  for (const { hash, offset, length } of chunks) checkChunk(plain.subarray(offset, offset + length), hash);
  return packed;
}

function chunksByFrame(entries: readonly FileEntry[]): Map<string, Chunk[]> {
  const chunks = new Map<string, Chunk[]>();
  for (const chunk of entries.flatMap((entry) => entry.chunks)) {
    const name = frameName(chunk.frame);
    const list = chunks.get(name);
    if (list === undefined) chunks.set(name, [chunk]);
    else list.push(chunk);
  }
  return chunks;
}

function frameName(frame: Frame): string {
  return `${sourceName(frame.source)}@${frame.offset}`;
}
