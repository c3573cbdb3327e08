import type { ByteRange } from "./backend/backend.ts";
import { CorruptObjectError } from "./errors.ts";
import type { Commit } from "./format/commit.ts";
import type { Chunk, FileEntry, Frame } from "./format/table-entry.ts";
import { planRanges, readRange } from "./frame-ranges.ts";
import { type DirectoryRef, sourceKey } from "./keys.ts";
import type { StoreContext } from "./store-context.ts";
import { BadFrameError, checkChunk, unpackFrame } from "./tree/write-frames.ts";

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
    const plain = await readFrames(
      context,
      ref,
      commit,
      new Set(group.map(({ chunk }) => chunk.frame)),
      signal,
    );
    for (const { chunk, position: first } of group) {
      const content = (plain.get(chunk.frame) ?? EMPTY).subarray(chunk.offset, chunk.offset + chunk.length);
      verifying(ref, chunk.frame, () => checkChunk(content, chunk.hash));
      yield content.subarray(Math.max(0, range.start - first), Math.min(chunk.length, range.end - first));
    }
  }
}

const EMPTY = Buffer.alloc(0);

/** A chunk of a frame that small files share: mostly the next file that is asked for lies in the same one. */
async function readSharedChunk(
  context: StoreContext,
  ref: DirectoryRef,
  commit: Commit,
  { frame, offset, length, hash }: Chunk,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const name = `${sourceKey(ref, frame.source)} ${frame.offset} ${frame.length} ${frame.plainLength}`;
  const read = async () =>
    (await readFrames(context, ref, commit, new Set([frame]), undefined)).get(frame) ?? EMPTY;
  const content = (await context.sharedFrames.get(name, read, signal)).subarray(offset, offset + length);
  try {
    verifying(ref, frame, () => checkChunk(content, hash));
  } catch (error) {
    context.sharedFrames.drop(name);
    throw error;
  }
  return content;
}

async function readFrames(
  context: StoreContext,
  ref: DirectoryRef,
  commit: Commit,
  frames: ReadonlySet<Frame>,
  signal: AbortSignal | undefined,
): Promise<Map<Frame, Buffer>> {
  const plain = new Map<Frame, Buffer>();
  for (const range of planRanges(frames)) {
    const bytes = await readRange(context, ref, commit, range, signal);
    for (const frame of range.frames) {
      const start = frame.offset - range.start;
      const packed = bytes.subarray(start, start + frame.length);
      plain.set(
        frame,
        verifying(ref, frame, () => unpackFrame(packed, frame.plainLength)),
      );
    }
  }
  return plain;
}

function verifying<T>(ref: DirectoryRef, frame: Frame, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof BadFrameError)) throw error;
    throw new CorruptObjectError(sourceKey(ref, frame.source), error.message, error);
  }
}
