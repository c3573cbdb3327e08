import { readCommit } from "./commit-log.ts";
import { CorruptObjectError } from "./errors.ts";
import type { Commit } from "./format/commit.ts";
import { type Frame, type FrameSource, sourceName } from "./format/table-entry.ts";
import { type DirectoryRef, ownerOfSource, sourceKey } from "./keys.ts";
import type { StoreContext } from "./store-context.ts";

/** Frames with less between them than this are read at once, gap included: cheaper than another request. */
const GAP_BYTES = 64 * 1024;

/** Longest range; several are read at once. */
const RANGE_BYTES = 4 * 1024 * 1024;

/** Frames of one object that are read with one request. */
export interface FrameRange {
  readonly source: FrameSource;
  readonly start: number;
  readonly end: number;
  /** In the order of their offsets. */
  readonly frames: readonly Frame[];
}

/** Joins frames into ranges: per source, in the order of their offsets. */
export function planRanges(frames: Iterable<Frame>): FrameRange[] {
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
        (frame.source.kind === "pack" && end - range.start > RANGE_BYTES)
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

/** Reads a range. @param commit the record at hand, whose own inline part need not be read again */
export async function readRange(
  context: StoreContext,
  ref: DirectoryRef,
  commit: Commit | undefined,
  range: FrameRange,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const { source, start, end } = range;
  const key = sourceKey(ref, source);
  if (source.kind === "pack") return await context.backend.get(key, { range: { start, end }, signal });
  const { generation } = source;
  const holder =
    source.session === undefined && generation === commit?.generation
      ? commit
      : await readCommit(context, ownerOfSource(ref, source), generation, signal);
  if (end > holder.inline.length) throw new CorruptObjectError(key, "its inline content ends early");
  return holder.inline.subarray(start, end);
}
