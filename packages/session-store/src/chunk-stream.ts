import type { ByteRange } from "./backend/backend.ts";
import type { Commit } from "./format/commit.ts";
import type { Chunk, FileEntry, Frame } from "./format/table-entry.ts";
import { planRanges, useRange } from "./frame-ranges.ts";
import { type DirectoryRef, sourceKey } from "./keys.ts";
import type { StoreContext } from "./store-context.ts";
import { BadFrameError, unpackFrame } from "./tree/frame-codec.ts";
import { checkChunk } from "./tree/write-frames.ts";

/** Chunks whose frames are read with one request, where they lie side by side. */
const CHUNKS_AHEAD = 4;

/**
 * The content of a stored file, or a part of it, chunk by chunk. Every chunk is verified before any of it is given; at
 * most four chunks are in memory.
 *
 * @throws CorruptObjectError where a chunk is not what the table says; the stream then ends there
 */
export async function* readFileContent(
  context: StoreContext,
  ref: DirectoryRef,
  commit: Commit,
  entry: FileEntry,
  range: ByteRange,
  signal?: AbortSignal,
): AsyncGenerator<Buffer> {
  const wanted: { readonly chunk: Chunk; readonly position: number }[] = [];
  let position = 0;
  for (const chunk of entry.chunks) {
    if (position < range.end && position + chunk.length > range.start) wanted.push({ chunk, position });
    position += chunk.length;
  }
  const [only] = entry.chunks;
  if (only !== undefined && entry.chunks.length === 1 && only.length < only.frame.plainLength) {
    if (wanted.length > 0)
      yield (await readSharedChunk(context, ref, commit, only, signal)).subarray(range.start, range.end);
    return;
  }
  for (let at = 0; at < wanted.length; at += CHUNKS_AHEAD) {
    const group = wanted.slice(at, at + CHUNKS_AHEAD);
    const chunks = group.map(({ chunk }) => chunk);
    const frames = await readFrames(context, ref, commit, chunks, signal);
    for (const { chunk, position: first } of group) {
      const content = contentOf(chunk, frameOf(frames, chunk.frame));
      yield content.subarray(Math.max(0, range.start - first), Math.min(chunk.length, range.end - first));
    }
  }
}

/** A chunk of a frame that small files share: mostly the next file that is asked for lies in the same one. */
async function readSharedChunk(
  context: StoreContext,
  ref: DirectoryRef,
  commit: Commit,
  chunk: Chunk,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const { frame } = chunk;
  const name = `${sourceKey(ref, frame.source)} ${frame.offset} ${frame.length} ${frame.plainLength}`;
  const read = async () => frameOf(await readFrames(context, ref, commit, [chunk], undefined), frame);
  const content = contentOf(chunk, await context.sharedFrames.get(name, read, signal));
  try {
    checkChunk(content, chunk.hash);
    return content;
  } catch (error) {
    if (!(error instanceof BadFrameError)) throw error;
    // Only the chunk that it was read for was verified then.
    context.sharedFrames.drop(name);
    return contentOf(chunk, await read());
  }
}

/** Reads the frames of some chunks, and verifies these chunks. @throws CorruptObjectError */
async function readFrames(
  context: StoreContext,
  ref: DirectoryRef,
  commit: Commit,
  chunks: readonly Chunk[],
  signal: AbortSignal | undefined,
): Promise<Map<Frame, Buffer>> {
  const plain = new Map<Frame, Buffer>();
  for (const range of planRanges(new Set(chunks.map((chunk) => chunk.frame)))) {
    await useRange(context, ref, commit, range, signal, (bytes) => {
      for (const frame of range.frames) {
        const start = frame.offset - range.start;
        plain.set(frame, unpackFrame(bytes.subarray(start, start + frame.length), frame.plainLength));
      }
      for (const chunk of chunks) {
        if (range.frames.includes(chunk.frame))
          checkChunk(contentOf(chunk, frameOf(plain, chunk.frame)), chunk.hash);
      }
    });
  }
  return plain;
}

function frameOf(frames: ReadonlyMap<Frame, Buffer>, frame: Frame): Buffer {
  const plain = frames.get(frame);
  if (plain === undefined) throw new Error("a frame was not read");
  return plain;
}

function contentOf(chunk: Chunk, plain: Buffer): Buffer {
  return plain.subarray(chunk.offset, chunk.offset + chunk.length);
}
