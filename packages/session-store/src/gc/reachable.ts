import { forEachBounded } from "../bounded.ts";
import { readCommit } from "../commit-log.ts";
import type { Commit } from "../format/commit.ts";
import type { FrameSource } from "../format/table-entry.ts";
import { decodeTableSources } from "../format/table-object.ts";
import { type DirectoryRef, directoryPrefix, hashOfTableName, logKey, sourceKey, tableKey } from "../keys.ts";
import type { StoreContext } from "../store-context.ts";
import { sourcesOf } from "./newly-referenced.ts";

/** Records that are read at once; each may be a few MiB. */
const RECORDS_MAX = 8;

/** Tables that are read at once; one of a million files takes some 100 MiB. */
const TABLES_MAX = 2;

/**
 * What generations need, object by object: their records, tables and the records of their chains, and everything that
 * those name. That is more than what is needed of a table of which later changes hide a part, and never less.
 *
 * Each object is read once, also when many generations share it; of a table only the list of what it names.
 */
export class Reachable {
  readonly #context: StoreContext;
  readonly #ref: DirectoryRef;
  readonly #signal: AbortSignal | undefined;
  readonly #keys = new Set<string>();

  constructor(context: StoreContext, ref: DirectoryRef, signal: AbortSignal | undefined) {
    this.#context = context;
    this.#ref = ref;
    this.#signal = signal;
  }

  /**
   * Adds generations and all that they need.
   *
   * @returns which of them hold a whole turn, and no checkpoint inside of one
   * @throws GenerationNotFoundError, ObjectNotFoundError, CorruptObjectError, FormatTooNewError: it is then not known what
   *   is superfluous
   */
  async addGenerations(generations: Iterable<number>): Promise<number[]> {
    const whole: number[] = [];
    const tables = new Set<string>();
    const deltas = new Set<number>();
    await forEachBounded(generations, RECORDS_MAX, async (generation) => {
      const { chain, partial } = await this.#addRecord(generation);
      if (!partial) whole.push(generation);
      for (const name of [chain.full, chain.rollup]) if (name !== undefined) tables.add(name);
      for (const delta of chain.deltas) deltas.add(delta);
    });
    const unread = [...deltas].filter((generation) => !this.has(logKey(this.#ref, generation)));
    await forEachBounded(unread, RECORDS_MAX, async (generation) => {
      await this.#addRecord(generation);
    });
    const unreadTables = [...tables].filter((name) => !this.has(tableKey(this.#ref, name)));
    await forEachBounded(unreadTables, TABLES_MAX, (name) => this.#addTable(name));
    return whole;
  }

  /** Adds an object that nothing more is known of. @param key below the directory's prefix */
  addKey(key: string): void {
    this.#keys.add(directoryPrefix(this.#ref) + key);
  }

  has(key: string): boolean {
    return this.#keys.has(key);
  }

  async #addRecord(generation: number): Promise<Commit> {
    const commit = await readCommit(this.#context, this.#ref, generation, this.#signal);
    this.#keys.add(logKey(this.#ref, generation));
    if (commit.delta !== undefined) this.#addSources(sourcesOf(commit.delta.set).values());
    return commit;
  }

  async #addTable(name: string): Promise<void> {
    const key = tableKey(this.#ref, name);
    const content = await this.#context.backend.get(key, { signal: this.#signal });
    this.#addSources(await decodeTableSources(key, hashOfTableName(key, name), content));
    this.#keys.add(key);
  }

  #addSources(sources: Iterable<FrameSource>): void {
    // Those of other sessions are kept there, by pins.
    for (const source of sources) this.#keys.add(sourceKey(this.#ref, source));
  }
}
