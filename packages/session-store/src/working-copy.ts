// biome-ignore-all lint/style/noRestrictedImports: names are used below a descriptor of their directory, as SessionTree does

import { lstatSync } from "node:fs";
import { type DirectoryDescriptor, errnoOf, treeErrorOf } from "@longshore/shared";
import { checkDirectoryFor, modeOfDirectory, planApplication } from "./apply-changes.ts";
import type { CommitResult } from "./commit-log.ts";
import { CorruptObjectError, StaleMirrorError, WorkingCopyUnusableError } from "./errors.ts";
import { type FileChanges, planChanges } from "./file-changes.ts";
import { type BytePath, nameOfPath, parentOfPath, pathOf } from "./format/byte-path.ts";
import type { Commit, CommitMeta } from "./format/commit.ts";
import { FileTable } from "./format/file-table.ts";
import type { TableDelta, TableEntry } from "./format/table-entry.ts";
import type { DirectoryRef } from "./keys.ts";
import { type Mirror, type MirrorContent, type MirrorOptions, makeMirror } from "./mirror.ts";
import type { ProgressListener } from "./progress.ts";
import { publishDelta, type StoredDelta } from "./publish-delta.ts";
import { restore } from "./restore.ts";
import { storeChanges } from "./store-changes.ts";
import type { StoreContext } from "./store-context.ts";
import { type ReadTable, readTable } from "./table-reader.ts";
import { DirectoryCache } from "./tree/directory-cache.ts";
import { compilePatterns } from "./tree/exclusions.ts";
import type { FileRecords } from "./tree/file-record.ts";
import { scanTree } from "./tree/scan.ts";
import type { Owner } from "./tree/write-frames.ts";
import { findUnchanged } from "./unchanged-entries.ts";

export interface RestoreOptions {
  /** Glob patterns of paths that generations never hold, and that are left alone. @default none */
  readonly exclude?: readonly string[];
  /**
   * Paths of directories that stay where they are, emptied, though the generation has none: somebody may be at work in
   * them already. @default none
   */
  readonly keep?: readonly string[];
  /** Told how much of what differs was written. */
  readonly onProgress?: ProgressListener;
  readonly signal?: AbortSignal;
}

/**
 * A directory that equals a generation, and what the file system said of each file when it did.
 *
 * States: `ready` from the beginning; `busy` during `mirror`, `commit` and `restore`, which exclude each other;
 * `broken` when a `restore` failed, because the directory is then of no generation: it can only be discarded (I4);
 * `closed`. A mirror or commit that fails leaves everything as it was.
 */
export class WorkingCopy {
  readonly ref: DirectoryRef;
  readonly directory: string;
  readonly #context: StoreContext;
  readonly #root: DirectoryDescriptor;
  readonly #owner: Owner | undefined;
  /** What belongs to the mirrors that were handed out. */
  readonly #contents = new WeakMap<Mirror, MirrorContent>();
  #base: Commit | undefined;
  #table: FileTable;
  #sinceFull: Set<BytePath>;
  #records: FileRecords;
  #unusable: WorkingCopyUnusableError | undefined;
  #busy: string | undefined;
  #closed = false;

  /** Only `SessionStore.hydrate` makes these. */
  constructor(
    context: StoreContext,
    ref: DirectoryRef,
    directory: string,
    root: DirectoryDescriptor,
    owner: Owner | undefined,
    base: Commit | undefined,
    table: ReadTable,
    records: FileRecords,
  ) {
    this.ref = ref;
    this.directory = directory;
    this.#context = context;
    this.#root = root;
    this.#owner = owner;
    this.#base = base;
    this.#table = table.table;
    this.#sinceFull = table.sinceFull;
    this.#records = records;
  }

  /** The generation that the directory equalled last; undefined: generation 0, the empty directory. */
  get base(): Commit | undefined {
    return this.#base;
  }

  /** The file table of `base`. Not to be changed. */
  get table(): FileTable {
    return this.#table;
  }

  /**
   * Finds what changed since `base` and stores it: packs, but no record, so nothing is visible to anybody.
   *
   * The tree is looked at as one moment if nobody writes to it until `onRead`. A file that is being written in that
   * moment is read again by the next mirror: a change is in this generation or in the next, never lost.
   *
   * @throws QuotaExceededError with the numbers; errors of the store
   */
  mirror(options: MirrorOptions = {}): Promise<Mirror> {
    return this.#exclusively("mirror", async () => {
      const content = await makeMirror(
        this.#context,
        this.ref,
        this.#root,
        this.#base,
        this.#table,
        this.#records,
        options,
      );
      const mirror: Mirror = {
        base: content.base,
        changed: content.changed,
        removed: content.removed,
        isEmpty: content.isEmpty,
        entries: content.entries,
        totalBytes: content.totalBytes,
        newBytes: content.newBytes,
        leftOut: content.leftOut,
        leftOutCount: content.leftOutCount,
      };
      this.#contents.set(mirror, content);
      return mirror;
    });
  }

  /**
   * Publishes the next generation (I3): the mirror's state, or with "unchanged" that of the base.
   *
   * Afterwards `base` is the new commit and the records are the mirror's, so that the next turn needs no restore. When
   * somebody else's generation stands there nothing changes here; whether to adopt it or to stop is the caller's
   * decision (I5).
   *
   * @throws EpochRegressedError; StaleMirrorError for a mirror of another base; CommitUnsettledError when the store did
   *   not let us find out; the working copy may then not be used to commit again before its caller has read the log
   */
  commit(mirror: Mirror | "unchanged", meta: CommitMeta, signal?: AbortSignal): Promise<CommitResult> {
    return this.#exclusively("commit", async () => {
      const base = this.#base;
      const content = mirror === "unchanged" ? undefined : this.#contents.get(mirror);
      if (mirror !== "unchanged" && (content === undefined || content.base !== base))
        throw new StaleMirrorError();
      const stored = content ?? { delta: { set: [], removed: [] }, inline: Buffer.alloc(0), packs: 0 };
      return await this.#publish(stored, content?.records ?? new Map(), meta, signal);
    });
  }

  /**
   * Publishes the base with some files changed, and writes those into the directory too. All else that was done in the
   * directory since the base stays, and is part of no generation yet.
   *
   * When somebody else's generation stands there nothing changes here. Nobody should be at work in the directory.
   *
   * @throws UnsafePathError where a file is in the way of a directory or a directory in that of a file, in the base or in
   *   the directory; QuotaExceededError, ContentSizeError: nothing was published. All that `commit` throws. Where the files
   *   can't be written after the commit, the working copy can only be closed
   */
  commitFiles(changes: FileChanges, meta: CommitMeta, signal?: AbortSignal): Promise<CommitResult> {
    return this.#exclusively("commit", async () => {
      checkDirectoryFor(this.#root, changes);
      const modeOf = (path: BytePath) => modeOfDirectory(this.#root, path);
      const planned = planChanges(this.#table, changes, this.#context.clock.now(), modeOf);
      const stored = await storeChanges(this.#context, this.ref, this.#base, this.#table, planned, signal);
      const result = await this.#publish(stored, new Map(), meta, signal);
      if (result.outcome === "overtaken") return result;
      try {
        await this.#apply(changes, stored.entries, result.commit, signal);
      } catch (error) {
        this.#unusable = new WorkingCopyUnusableError("files could not be written into it", error);
        throw error;
      }
      for (const path of planned.removed) this.#records.delete(path);
      return result;
    });
  }

  /**
   * Makes the directory equal a generation again, whatever was done in it: a turn is undone, somebody else's commit is
   * adopted. Only what differs is fetched and written.
   *
   * @param commit @default the base
   * @throws as `SessionStore.hydrate`; afterwards the working copy can only be closed
   */
  restore(commit: Commit | undefined = this.#base, options: RestoreOptions = {}): Promise<void> {
    return this.#exclusively("restore", async () => {
      try {
        await this.#restore(commit, options);
      } catch (error) {
        this.#unusable = new WorkingCopyUnusableError("a restore over it failed", error);
        throw error;
      }
    });
  }

  /** Lets go of the directory; what is in it stays. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#unusable = new WorkingCopyUnusableError("it is closed");
    if (this.#busy === undefined) this.#root.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #publish(
    stored: StoredDelta,
    records: MirrorContent["records"],
    meta: CommitMeta,
    signal: AbortSignal | undefined,
  ): Promise<CommitResult> {
    const tables = { table: this.#table, sinceFull: this.#sinceFull };
    const { result, sinceFull, moved } = await publishDelta(
      this.#context,
      this.ref,
      this.#base,
      tables,
      stored,
      meta,
      signal,
    );
    if (result.outcome === "overtaken") return result;
    this.#base = result.commit;
    this.#table.apply(stored.delta);
    this.#table.apply({ set: moved, removed: [] });
    this.#sinceFull = sinceFull;
    for (const [path, record] of records) {
      if (record === undefined) this.#records.delete(path);
      else this.#records.set(path, record);
    }
    return result;
  }

  async #apply(
    changes: FileChanges,
    entries: readonly TableEntry[],
    commit: Commit,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { plan, finished } = planApplication(this.#root, this.#table, this.#records, changes, entries);
    const job = { ref: this.ref, root: this.#root, commit, table: finished, plan, owner: this.#owner };
    for (const [path, record] of await restore(this.#context, job, signal)) this.#records.set(path, record);
  }

  async #restore(
    commit: Commit | undefined,
    { exclude = [], keep = [], onProgress, signal }: RestoreOptions,
  ): Promise<void> {
    const target = await this.#tableOf(commit, signal);
    const scan = await scanTree(this.#root, this.#context.threads, this.#records, {
      exclude: compilePatterns(exclude),
      signal,
    });
    const set = new Map<BytePath, TableEntry>();
    const remove = new Set<BytePath>();
    const unchanged = await findUnchanged(this.#context, this.#root, scan.changed, this.#table, signal);
    const changed = scan.changed.filter((entry) => !unchanged.has(entry.path));
    const drifted = [...scan.removed, ...changed.map((entry) => entry.path)];
    const difference = this.#table.differenceTo(target.table);
    const kept = directoriesAt(this.#root, keep);
    for (const path of [...drifted, ...difference.removed, ...difference.set.map((entry) => entry.path)]) {
      const wanted = target.table.get(path);
      if (wanted !== undefined) set.set(path, wanted);
      // The next mirror is to find it, since no generation has it.
      else if (kept.has(path)) this.#records.delete(path);
      else remove.add(path);
    }
    // What is of another type has to go before it can be made; all that the table has below it is listed already.
    // What is there and of the right type stays, a directory above all: somebody may be at work in it.
    const there = new Map(changed.map(({ path, type }) => [path, type]));
    for (const [path, { type }] of set) {
      const found = there.get(path) ?? this.#table.get(path)?.type;
      if (found !== undefined && found !== type) remove.add(path);
    }
    const touched = new Set([...remove].map(parentOfPath));
    const plan = { remove: [...remove], set: [...set.values()], touched };
    const table = target.table;
    const job = { ref: this.ref, root: this.#root, commit, table, plan, owner: this.#owner, onProgress };
    const records = await restore(this.#context, job, signal);
    for (const { path, record } of scan.changed) if (unchanged.has(path)) this.#records.set(path, record);
    for (const path of [...remove, ...scan.removed]) this.#records.delete(path);
    for (const [path, record] of records) this.#records.set(path, record);
    this.#base = commit;
    this.#table = target.table;
    this.#sinceFull = target.sinceFull;
  }

  async #tableOf(commit: Commit | undefined, signal: AbortSignal | undefined): Promise<ReadTable> {
    if (commit === undefined) return { table: new FileTable(), sinceFull: new Set() };
    const base = this.#base;
    if (commit.id === base?.id) return { table: this.#table, sinceFull: this.#sinceFull };
    if (
      base !== undefined &&
      commit.parent === base.generation &&
      commit.delta !== undefined &&
      !commit.repacked
    ) {
      return successorTable(base, { table: this.#table, sinceFull: this.#sinceFull }, commit, commit.delta);
    }
    return await readTable(this.#context, this.ref, commit, signal);
  }

  async #exclusively<T>(what: string, operation: () => Promise<T>): Promise<T> {
    if (this.#unusable !== undefined) throw this.#unusable;
    if (this.#busy !== undefined) throw new WorkingCopyUnusableError(`a ${this.#busy} is running`);
    this.#busy = what;
    try {
      return await operation();
    } catch (error) {
      throw treeErrorOf(this.directory, error);
    } finally {
      this.#busy = undefined;
      if (this.#closed) this.#root.close();
    }
  }
}

/** Which of some paths are directories. */
function directoriesAt(root: DirectoryDescriptor, paths: readonly string[]): Set<BytePath> {
  using directories = new DirectoryCache(root);
  const isDirectory = (path: BytePath): boolean => {
    try {
      const at = directories.parentOf(path).entryOfBytes(nameOfPath(path));
      return lstatSync(at, { throwIfNoEntry: false })?.isDirectory() ?? false;
    } catch (error) {
      if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return false;
      throw error;
    }
  };
  return new Set(paths.map((path) => pathOf(path)).filter(isDirectory));
}

/** The table of the generation after a known one: nothing has to be read for it. */
function successorTable(base: Commit, known: ReadTable, commit: Commit, delta: TableDelta): ReadTable {
  const table = known.table.copy();
  table.apply(delta);
  try {
    table.check();
  } catch (error) {
    throw new CorruptObjectError(`generation ${commit.generation}`, String(error), error);
  }
  const sinceFull = new Set(commit.chain.full === base.chain.full ? known.sinceFull : []);
  if (commit.chain.full === base.chain.full) {
    for (const path of delta.removed) sinceFull.add(path);
    for (const entry of delta.set) sinceFull.add(entry.path);
  }
  return { table, sinceFull };
}
