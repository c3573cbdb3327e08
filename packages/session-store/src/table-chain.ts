import type { BytePath } from "./format/byte-path.ts";
import type { Commit, TableChain } from "./format/commit.ts";
import type { FileTable } from "./format/file-table.ts";
import { INLINE_DELTA_BYTES } from "./format/limits.ts";
import type { TableDelta, TableEntry } from "./format/table-entry.ts";

/** Deltas after which they are merged, when the commit needs no pack; with one it waits, so that a turn costs two puts. */
const DELTAS_SOON = 8;
const DELTAS_MAX = 16;

/** A rollup becomes a full table once it names more than this share of the table's paths. */
const ROLLUP_SHARE = 1 / 4;

/**
 * How the table of a new generation is stored.
 *
 * - `delta`: in the commit record alone.
 * - `rollup`: as an object of all changes since the full table.
 * - `full`: as a whole.
 */
export type ChainStep = "delta" | "rollup" | "full";

/**
 * Decides that. A restore reads full table, rollup and a handful of deltas, so these have to be merged now and then; and
 * what is written for that must stay in proportion to what changed, also in a session of 100,000 files.
 *
 * @param changedSinceFull how many paths will differ from the full table
 * @param withPack whether the commit puts a pack, too
 */
export function chooseChainStep(
  parent: Commit | undefined,
  delta: TableDelta,
  changedSinceFull: number,
  tableSize: number,
  withPack: boolean,
): ChainStep {
  const deltas = parent?.chain.deltas.length ?? 0;
  if (isInlineDelta(delta) && deltas < (withPack ? DELTAS_MAX : DELTAS_SOON)) return "delta";
  return parent?.chain.full !== undefined && fitsRollup(changedSinceFull, tableSize) ? "rollup" : "full";
}

/** Whether the changes since the full table are few enough not to write it anew. */
export function fitsRollup(changedSinceFull: number, tableSize: number): boolean {
  return changedSinceFull <= tableSize * ROLLUP_SHARE;
}

/** Whether a delta is small enough to be part of the commit record. */
export function isInlineDelta(delta: TableDelta): boolean {
  return deltaBytes(delta) <= INLINE_DELTA_BYTES;
}

/** The chain of a generation whose delta alone is stored; one without changes adds nothing to read. */
export function extendedChain(parent: Commit | undefined, generation: number, delta: TableDelta): TableChain {
  const chain = parent?.chain ?? { deltas: [] };
  if (delta.set.length === 0 && delta.removed.length === 0) return chain;
  return { ...chain, deltas: [...chain.deltas, generation] };
}

/** All changes since the full table as one delta. */
export function rollupOf(table: FileTable, sinceFull: ReadonlySet<BytePath>): TableDelta {
  const set: TableEntry[] = [];
  const removed: BytePath[] = [];
  for (const path of sinceFull) {
    const entry = table.get(path);
    if (entry === undefined) removed.push(path);
    else set.push(entry);
  }
  return { set, removed };
}

/** About how many bytes a delta takes; its hashes can't be compressed. */
function deltaBytes(delta: TableDelta): number {
  let bytes = 0;
  for (const path of delta.removed) bytes += path.length;
  for (const entry of delta.set) {
    bytes += entry.path.length + 16;
    if (entry.type === "file") bytes += entry.chunks.length * 48;
    else if (entry.type === "link") bytes += entry.target.length;
  }
  return bytes;
}
