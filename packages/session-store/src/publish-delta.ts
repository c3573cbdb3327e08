import { putContent } from "./backend/put-content.ts";
import { type CommitResult, isLate, newCommitId, publishCommit } from "./commit-log.ts";
import { EpochRegressedError, GenerationNotFoundError, StaleMirrorError } from "./errors.ts";
import type { BytePath } from "./format/byte-path.ts";
import type { Commit, CommitMeta, ForkOrigin, TableChain } from "./format/commit.ts";
import type { FileTable } from "./format/file-table.ts";
import { sourceName, type TableDelta, type TableEntry } from "./format/table-entry.ts";
import { encodeTableObject } from "./format/table-object.ts";
import { lapsedReference, type StoredGeneration, sourcesOf } from "./gc/newly-referenced.ts";
import { type DirectoryRef, tableKey } from "./keys.ts";
import { repack } from "./repack.ts";
import type { StoreContext } from "./store-context.ts";
import { chooseChainStep, extendedChain, fitsRollup, isInlineDelta, rollupOf } from "./table-chain.ts";
import type { ReadTable } from "./table-reader.ts";

/** What a commit changes, whose new content is stored already or part of the record. */
export interface StoredDelta {
  readonly delta: TableDelta;
  readonly inline: Buffer;
  /** How many packs were put for it. */
  readonly packs: number;
  /** When the store took the first of them, by its own clock, in ms. */
  readonly storedMs?: number | undefined;
  /** Where entries come from that are neither new nor the parent's: a rollback's or a fork's generation. */
  readonly from?: StoredGeneration;
  /** Sessions whose objects the entries name. */
  readonly origins?: readonly ForkOrigin[];
  /** Keys of the pins that keep those. */
  readonly pins?: readonly string[];
}

export interface PublishedDelta {
  readonly result: CommitResult;
  /** Paths that then differ from the chain's full table. */
  readonly sinceFull: Set<BytePath>;
  /** Entries, of the new table, whose content was packed anew: what was known of them is out of date. */
  readonly moved: readonly TableEntry[];
}

/**
 * Publishes the generation that follows another one: a full table or rollup first if one is due, then the record.
 *
 * @param parent undefined: generation 0, with `absentMs`, when the store said that there is none, if it is known
 * @param known the parent's table; left as it is
 * @throws EpochRegressedError, CommitUnsettledError; StaleMirrorError when so much time has passed that what was stored for
 *   it was collected; GenerationNotFoundError when that of `from` is expiring
 */
export async function publishDelta(
  context: StoreContext,
  ref: DirectoryRef,
  parent: Commit | { readonly absentMs: number } | undefined,
  known: ReadTable,
  stored: StoredDelta,
  meta: CommitMeta,
  signal: AbortSignal | undefined,
): Promise<PublishedDelta> {
  const base = parent !== undefined && "generation" in parent ? parent : undefined;
  const absentMs = parent !== undefined && "absentMs" in parent ? parent.absentMs : undefined;
  if (base !== undefined && meta.epoch < base.epoch) throw new EpochRegressedError(meta.epoch, base.epoch);
  const generation = (base?.generation ?? 0) + 1;
  if (stored.from !== undefined) {
    const looked = { generation, moved: [], tables: [], existing: false };
    const lapsed = await lapsedError(context, ref, known, stored, looked, signal);
    if (lapsed !== undefined) throw lapsed;
  }
  const written = await writeTables(context, ref, base, known, stored, signal);
  const { moved, sinceFull, tables, tablesMs, ...chained } = written;
  const sizes = sizesAfter(known.table, stored.delta);
  const commit: Commit = {
    ...newCommit(context, base, meta),
    entries: sizes.entries,
    totalBytes: (base?.totalBytes ?? 0) + sizes.addedBytes,
    ...chained,
    delta: isInlineDelta(stored.delta) ? stored.delta : undefined,
    inline: stored.inline,
  };
  const storedMs = stored.storedMs ?? tablesMs;
  const publication = {
    observedMs: base?.observedMs ?? absentMs,
    lapsed: async (nowMs: number) => {
      const isNew = storedMs === undefined || !isLate(context, storedMs, nowMs);
      if (isNew && stored.from === undefined) return undefined;
      return await lapsedError(
        context,
        ref,
        known,
        stored,
        { generation, moved, tables, existing: true },
        signal,
      );
    },
  };
  const result = await publishCommit(context, ref, commit, publication, signal);
  return { result, sinceFull, moved };
}

/** What every commit after a parent says of itself. */
export function newCommit(
  context: StoreContext,
  parent: Commit | undefined,
  meta: CommitMeta,
): Omit<Commit, "entries" | "totalBytes" | "chain" | "delta" | "inline"> {
  return {
    generation: (parent?.generation ?? 0) + 1,
    parent: parent?.generation ?? 0,
    epoch: meta.epoch,
    nonce: meta.nonce,
    id: newCommitId(),
    worker: meta.worker,
    time: new Date(context.clock.now()).toISOString(),
    kind: meta.kind,
    partial: meta.partial ?? false,
    note: meta.note,
  };
}

interface WrittenTables {
  readonly chain: TableChain;
  readonly sinceFull: Set<BytePath>;
  readonly moved: readonly TableEntry[];
  readonly repacked?: true;
  readonly origins?: readonly ForkOrigin[];
  /** Keys of what was put, and when, by the store's clock. */
  readonly tables: readonly string[];
  readonly tablesMs: number | undefined;
}

/** Decides how the new table is stored, and puts what of it is no part of the record. */
async function writeTables(
  context: StoreContext,
  ref: DirectoryRef,
  parent: Commit | undefined,
  known: ReadTable,
  { delta, packs, origins = [] }: StoredDelta,
  signal: AbortSignal | undefined,
): Promise<WrittenTables> {
  const generation = (parent?.generation ?? 0) + 1;
  const sinceFull = new Set(known.sinceFull);
  for (const path of delta.removed) sinceFull.add(path);
  for (const entry of delta.set) sinceFull.add(entry.path);
  const { entries } = sizesAfter(known.table, delta);
  const step = chooseChainStep(parent, delta, sinceFull.size, entries, packs > 0);
  const possible = joinOrigins(parent?.origins ?? [], origins);
  if (step === "delta") {
    const chain = extendedChain(parent, generation, delta);
    return { chain, sinceFull, moved: [], tables: [], tablesMs: undefined, ...originsField(possible) };
  }
  const next = known.table.copy();
  next.apply(delta);
  const moved = await repack(context, ref, next, generation, signal);
  next.apply({ set: moved, removed: [] });
  for (const entry of moved) sinceFull.add(entry.path);
  const repacked = moved.length > 0 ? ({ repacked: true } as const) : {};
  const put = (content: TableDelta) => putTable(context, ref, generation, content, signal);
  if (step === "rollup" && fitsRollup(sinceFull.size, next.size)) {
    const rollup = await put(rollupOf(next, sinceFull));
    const full = parent?.chain.full;
    const chain = { ...(full === undefined ? {} : { full }), rollup: rollup.name, deltas: [] };
    return { chain, sinceFull, moved, ...repacked, ...rollup.put, ...originsField(possible) };
  }
  const full = await put({ set: [...next.entries()], removed: [] });
  sinceFull.clear();
  // Only now is it known what the whole table names, and so what a fork does not need any more.
  const named = new Set([...sourcesOf(next.entries()).values()].map((source) => source.session));
  const needed = possible.filter((origin) => named.has(origin.sessionId));
  const chain = { full: full.name, deltas: [] };
  return { chain, sinceFull, moved, ...repacked, ...full.put, ...originsField(needed) };
}

function originsField(origins: readonly ForkOrigin[]): { origins?: readonly ForkOrigin[] } {
  return origins.length === 0 ? {} : { origins };
}

function joinOrigins(a: readonly ForkOrigin[], b: readonly ForkOrigin[]): ForkOrigin[] {
  const joined = new Map([...a, ...b].map((origin) => [`${origin.sessionId}/${origin.generation}`, origin]));
  return [...joined.values()];
}

/** Whether something that a commit newly names is about to be deleted, or was. */
async function lapsedError(
  context: StoreContext,
  ref: DirectoryRef,
  known: ReadTable,
  stored: StoredDelta,
  written: {
    readonly generation: number;
    readonly moved: readonly TableEntry[];
    readonly tables: readonly string[];
    readonly existing: boolean;
  },
  signal: AbortSignal | undefined,
): Promise<Error | undefined> {
  const sources = sourcesOf([...stored.delta.set, ...written.moved]);
  // What the newest generation names stays as long as it is the newest.
  for (const name of sourcesOf(known.table.entries()).keys()) sources.delete(name);
  sources.delete(sourceName({ kind: "log", generation: written.generation }));
  const keys = [...written.tables, ...(stored.pins ?? [])];
  const why = await lapsedReference(
    context,
    ref,
    { from: stored.from, sources: sources.values(), keys },
    { existing: written.existing, signal },
  );
  if (why === undefined) return undefined;
  return stored.from === undefined
    ? new StaleMirrorError(why)
    : new GenerationNotFoundError(stored.from.generation, why);
}

async function putTable(
  context: StoreContext,
  ref: DirectoryRef,
  generation: number,
  delta: TableDelta,
  signal: AbortSignal | undefined,
): Promise<{ readonly name: string; readonly put: Pick<WrittenTables, "tables" | "tablesMs"> }> {
  const { content, hash } = await encodeTableObject(delta);
  const name = `${generation}-${hash}`;
  const key = tableKey(ref, name);
  const { storeTimeMs } = await putContent(context.backend, key, content, context.random, { signal });
  return { name, put: { tables: [key], tablesMs: storeTimeMs } };
}

/** Sizes of a table after a delta, without making it. */
function sizesAfter(
  table: FileTable,
  delta: TableDelta,
): { readonly entries: number; readonly addedBytes: number } {
  let entries = table.size;
  let addedBytes = 0;
  for (const path of delta.removed) {
    const before = table.get(path);
    if (before === undefined) continue;
    entries--;
    addedBytes -= before.type === "file" ? before.size : 0;
  }
  for (const entry of delta.set) {
    const before = table.get(entry.path);
    if (before === undefined) entries++;
    addedBytes += (entry.type === "file" ? entry.size : 0) - (before?.type === "file" ? before.size : 0);
  }
  return { entries, addedBytes };
}
