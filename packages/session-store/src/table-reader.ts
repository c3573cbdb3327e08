import { ChunkCache } from "./cache/chunk-cache.ts";
import { readCommit } from "./commit-log.ts";
import { CorruptObjectError } from "./errors.ts";
import type { BytePath } from "./format/byte-path.ts";
import type { Commit } from "./format/commit.ts";
import { FileTable } from "./format/file-table.ts";
import type { TableDelta } from "./format/table-entry.ts";
import { decodeTableObject } from "./format/table-object.ts";
import { type DirectoryRef, hashOfTableName, logKey, tableKey } from "./keys.ts";
import type { StoreContext } from "./store-context.ts";

/** More deltas than a writer ever leaves to be read: a record that names more was not written by this package. */
const CHAIN_DELTAS_MAX = 64;

export interface ReadTable {
  readonly table: FileTable;
  /** Paths that differ from the full table of the chain. */
  readonly sinceFull: Set<BytePath>;
}

/**
 * Reads the file table of a generation: its full table, rollup and deltas at once, each verified, and the whole checked.
 *
 * @throws CorruptObjectError, FormatTooNewError, ObjectNotFoundError
 */
export async function readTable(
  context: StoreContext,
  ref: DirectoryRef,
  commit: Commit,
  signal?: AbortSignal,
): Promise<ReadTable> {
  const { chain } = commit;
  const key = logKey(ref, commit.generation);
  if (chain.deltas.length > CHAIN_DELTAS_MAX) throw new CorruptObjectError(key, "the chain is too long");
  const [full, rollup, ...deltas] = await Promise.all([
    readTableObject(context, ref, key, chain.full, signal),
    readTableObject(context, ref, key, chain.rollup, signal),
    ...chain.deltas.map((generation) => readDelta(context, ref, commit, generation, signal)),
  ]);
  const table = new FileTable(full?.set);
  const sinceFull = new Set<BytePath>();
  for (const delta of [rollup, ...deltas]) {
    if (delta === undefined) continue;
    table.apply(delta);
    for (const path of delta.removed) sinceFull.add(path);
    for (const entry of delta.set) sinceFull.add(entry.path);
  }
  try {
    table.check();
  } catch (error) {
    throw new CorruptObjectError(key, error instanceof Error ? error.message : String(error), error);
  }
  return { table, sinceFull };
}

async function readTableObject(
  context: StoreContext,
  ref: DirectoryRef,
  recordKey: string,
  name: string | undefined,
  signal: AbortSignal | undefined,
): Promise<TableDelta | undefined> {
  if (name === undefined) return undefined;
  const hash = hashOfTableName(recordKey, name);
  const key = tableKey(ref, name);
  const { backend, cache } = context;
  const cacheName = ChunkCache.nameOf(backend.url, key);
  const cached = await cache?.readWhole(cacheName);
  if (cached !== undefined) {
    try {
      return await decodeTableObject(key, hash, cached);
    } catch (error) {
      if (!(error instanceof CorruptObjectError)) throw error;
      cache?.drop([cacheName]);
    }
  }
  const content = await backend.get(key, { signal });
  const delta = await decodeTableObject(key, hash, content);
  cache?.missed(content.length);
  cache?.put(cacheName, content);
  return delta;
}

async function readDelta(
  context: StoreContext,
  ref: DirectoryRef,
  commit: Commit,
  generation: number,
  signal: AbortSignal | undefined,
): Promise<TableDelta> {
  if (generation > commit.generation) throw new CorruptObjectError(logKey(ref, commit.generation), "chain");
  const holder =
    generation === commit.generation ? commit : await readCommit(context, ref, generation, signal);
  if (holder.delta === undefined) throw new CorruptObjectError(logKey(ref, generation), "it holds no delta");
  return holder.delta;
}
