import { forEachBounded } from "../bounded.ts";
import { type FrameSource, sourceName, type TableEntry } from "../format/table-entry.ts";
import { type DirectoryRef, directoryPrefix, ownerOfSource, sourceKey } from "../keys.ts";
import type { StoreContext } from "../store-context.ts";
import { type Marks, readMarks } from "./marks.ts";

// A collector deletes what it saw superfluous, and marked so, long ago. It is safe beside commits because nobody refers
// anew to what is marked: a mark that came after one looked is acted upon only after a time within which one's commit
// stands and is seen by the collector, or is looked at again (see `publishCommit`).

/** Objects whose existence is asked for at once. */
const LOOKS_MAX = 16;

/** A generation of a directory. */
export interface StoredGeneration {
  readonly ref: DirectoryRef;
  readonly generation: number;
}

/** What a generation is about to name that the one before it does not. */
export interface NewReferences {
  /** The generation that they come from, where that is not the one before. */
  readonly from?: StoredGeneration | undefined;
  readonly sources: Iterable<FrameSource>;
  /** Keys of further objects: tables, pins. */
  readonly keys?: readonly string[];
}

/**
 * Looks whether all that a commit newly refers to will stay: no collector marked it.
 *
 * @param options.existing also ask the store for each object: it may have been collected since it was seen
 * @returns why not, or undefined
 */
export async function lapsedReference(
  context: StoreContext,
  ref: DirectoryRef,
  references: NewReferences,
  options: { readonly existing: boolean; readonly signal?: AbortSignal | undefined },
): Promise<string | undefined> {
  const { signal } = options;
  const owners = new Map<string, { marks: Marks; prefix: string }>();
  const marksOf = async (owner: DirectoryRef): Promise<{ marks: Marks; prefix: string }> => {
    const prefix = directoryPrefix(owner);
    const known = owners.get(prefix) ?? { marks: await readMarks(context, owner, signal), prefix };
    owners.set(prefix, known);
    return known;
  };
  const { from } = references;
  if (from !== undefined && from.generation < (await marksOf(from.ref)).marks.floor)
    return `generation ${from.generation} is beyond its retention`;
  const keys = new Set(references.keys);
  for (const source of references.sources) {
    const owner = await marksOf(ownerOfSource(ref, source));
    const key = sourceKey(ref, source);
    if (owner.marks.keys.has(key.slice(owner.prefix.length))) return `${key} is about to be deleted`;
    keys.add(key);
  }
  let missing: string | undefined;
  if (options.existing) {
    await forEachBounded(keys, LOOKS_MAX, async (key) => {
      // Not a HEAD, whose answer has no body to tell a skewed clock from denied access.
      const { objects } = await context.backend.list(key, { limit: 1, signal });
      if (objects[0]?.key !== key) missing = key;
    });
  }
  return missing === undefined ? undefined : `${missing} was deleted`;
}

/** The objects that hold the content of entries, each once. */
export function sourcesOf(entries: Iterable<TableEntry>): Map<string, FrameSource> {
  const sources = new Map<string, FrameSource>();
  for (const entry of entries) {
    if (entry.type !== "file") continue;
    for (const { frame } of entry.chunks) sources.set(sourceName(frame.source), frame.source);
  }
  return sources;
}
