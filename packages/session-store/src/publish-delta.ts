import { putContent } from "./backend/put-content.ts";
import { type CommitResult, newCommitId, publishCommit } from "./commit-log.ts";
import { EpochRegressedError } from "./errors.ts";
import type { BytePath } from "./format/byte-path.ts";
import type { Commit, CommitMeta, TableChain } from "./format/commit.ts";
import type { FileTable } from "./format/file-table.ts";
import type { TableDelta } from "./format/table-entry.ts";
import { encodeTableObject } from "./format/table-object.ts";
import { type DirectoryRef, tableKey } from "./keys.ts";
import type { StoreContext } from "./store-context.ts";
import { chooseChainStep, extendedChain, isInlineDelta, rollupOf } from "./table-chain.ts";
import type { ReadTable } from "./table-reader.ts";

/** What a commit changes, whose new content is stored already or part of the record. */
export interface StoredDelta {
  readonly delta: TableDelta;
  readonly inline: Buffer;
  /** How many packs were put for it. */
  readonly packs: number;
}

/**
 * Publishes the generation that follows another one: a full table or rollup first if one is due, then the record.
 *
 * @param known the parent's table; left as it is
 * @returns the result, and which paths then differ from the chain's full table
 * @throws EpochRegressedError, CommitUnsettledError
 */
export async function publishDelta(
  context: StoreContext,
  ref: DirectoryRef,
  parent: Commit | undefined,
  known: ReadTable,
  stored: StoredDelta,
  meta: CommitMeta,
  signal: AbortSignal | undefined,
): Promise<{ readonly result: CommitResult; readonly sinceFull: Set<BytePath> }> {
  if (parent !== undefined && meta.epoch < parent.epoch)
    throw new EpochRegressedError(meta.epoch, parent.epoch);
  const generation = (parent?.generation ?? 0) + 1;
  const { delta, inline, packs } = stored;
  const sinceFull = new Set(known.sinceFull);
  for (const path of delta.removed) sinceFull.add(path);
  for (const entry of delta.set) sinceFull.add(entry.path);
  const sizes = sizesAfter(known.table, delta);
  const step = chooseChainStep(parent, delta, sinceFull.size, sizes.entries, packs > 0);
  let chain: TableChain;
  if (step === "delta") chain = extendedChain(parent, generation, delta);
  else {
    const next = known.table.copy();
    next.apply(delta);
    if (step === "full") {
      const full = await putTable(
        context,
        ref,
        generation,
        { set: [...next.entries()], removed: [] },
        signal,
      );
      sinceFull.clear();
      chain = { full, deltas: [] };
    } else {
      const rollup = await putTable(context, ref, generation, rollupOf(next, sinceFull), signal);
      const full = parent?.chain.full;
      chain = { ...(full === undefined ? {} : { full }), rollup, deltas: [] };
    }
  }
  const commit: Commit = {
    generation,
    parent: parent?.generation ?? 0,
    epoch: meta.epoch,
    nonce: meta.nonce,
    id: newCommitId(),
    worker: meta.worker,
    time: new Date(context.clock.now()).toISOString(),
    kind: meta.kind,
    partial: meta.partial ?? false,
    note: meta.note,
    entries: sizes.entries,
    totalBytes: (parent?.totalBytes ?? 0) + sizes.addedBytes,
    chain,
    delta: isInlineDelta(delta) ? delta : undefined,
    inline,
  };
  return { result: await publishCommit(context, ref, commit, signal), sinceFull };
}

async function putTable(
  context: StoreContext,
  ref: DirectoryRef,
  generation: number,
  delta: TableDelta,
  signal: AbortSignal | undefined,
): Promise<string> {
  const { content, hash } = await encodeTableObject(delta);
  const name = `${generation}-${hash}`;
  await putContent(context.backend, tableKey(ref, name), content, context.random, { signal });
  return name;
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
