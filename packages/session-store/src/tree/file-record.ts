import type { BigIntStats, Stats } from "node:fs";
import type { BytePath } from "../format/byte-path.ts";
import type { NameStats } from "./directory-listing.ts";

/**
 * What the file system said of a path when its content was known: when it was restored, or read by a mirror. While
 * all of it is the same, the content is taken to be the same too.
 *
 * `ctime` is what makes that safe: nobody can set it, and a rename over a file, a copy that keeps times and a change
 * of mode all move it.
 */
export interface FileRecord {
  readonly mode: number;
  readonly size: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
  readonly inode: number;
  /**
   * Written so shortly before it was recorded that a later write may bear the same times: to be read again by the
   * next mirror, whatever the times say (the racily-clean rule of git's index).
   */
  readonly racy: boolean;
}

/** Times and sizes a directory or a file had, by path. */
export type FileRecords = Map<BytePath, FileRecord>;

/**
 * The coarsest step in which a kernel moves file times, in ms, with a margin (a tick of a 100 Hz kernel is 10 ms).
 * Linux from 6.13 on gives each change after a look its own time; before, two changes in one tick share theirs.
 */
export const TIME_STEP_MS = 20;

/** Makes a record of what a file system said. @param nowMs the time when it said so, by the wall clock */
export function recordOf(stats: Stats, nowMs: number): FileRecord {
  return {
    // The type's bits included: a file that became a link of the same size is another thing.
    mode: stats.mode,
    size: stats.size,
    mtimeMs: stats.mtimeMs,
    ctimeMs: stats.ctimeMs,
    inode: stats.ino,
    racy: stats.ctimeMs > nowMs - TIME_STEP_MS,
  };
}

/** The same of exact times, which become the same numbers as `Stats` has: seconds in ms plus the fraction in ms. */
export function recordOfExact(stats: BigIntStats, nowMs: number): FileRecord {
  const ctimeMs = millisecondsOf(stats.ctimeNs);
  return {
    mode: Number(stats.mode),
    size: Number(stats.size),
    mtimeMs: millisecondsOf(stats.mtimeNs),
    ctimeMs,
    inode: Number(stats.ino),
    racy: ctimeMs > nowMs - TIME_STEP_MS,
  };
}

/** A time as whole seconds, rounded down, and nanoseconds from 0 to 999,999,999. */
export function secondsOf(nanoseconds: bigint): readonly [seconds: number, nanoseconds: number] {
  const rest = ((nanoseconds % NS_PER_SECOND) + NS_PER_SECOND) % NS_PER_SECOND;
  return [Number((nanoseconds - rest) / NS_PER_SECOND), Number(rest)];
}

const NS_PER_SECOND = 1_000_000_000n;

function millisecondsOf(exact: bigint): number {
  const [seconds, nanoseconds] = secondsOf(exact);
  return seconds * 1000 + nanoseconds / 1e6;
}

/** Whether a path still is what was recorded. @param at where its numbers begin */
export function matchesRecord(record: FileRecord, stats: NameStats, at: number): boolean {
  return (
    !record.racy &&
    record.inode === stats[at] &&
    record.ctimeMs === stats[at + 1] &&
    record.mtimeMs === stats[at + 2] &&
    record.size === stats[at + 3] &&
    record.mode === stats[at + 4]
  );
}
