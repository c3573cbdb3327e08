// biome-ignore-all lint/style/noRestrictedImports: names are used below a descriptor of their directory, as SessionTree does

import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import {
  type Clock,
  DirectoryDescriptor,
  PathNotFoundError,
  splitTreePath,
  systemClock,
  treeErrorOf,
  UnsafePathError,
} from "@longshore/shared";
import type { Backend, ByteRange, Content } from "./backend/backend.ts";
import { meteredBackend, type StoredListener } from "./backend/metered-backend.ts";
import { probeBackend } from "./backend/probe.ts";
import { putContent } from "./backend/put-content.ts";
import { ChunkCache, type ChunkCacheOptions } from "./cache/chunk-cache.ts";
import { readFileContent } from "./chunk-stream.ts";
import {
  type CommitResult,
  listGenerations,
  publishCommit,
  readCommit,
  readNewestCommit,
} from "./commit-log.ts";
import { BadStoreNameError, DirectoryNotEmptyError, EpochRegressedError } from "./errors.ts";
import { type FileChanges, planChanges } from "./file-changes.ts";
import { fork } from "./fork.ts";
import { pathOf, textOfPath } from "./format/byte-path.ts";
import type { Commit, CommitMeta } from "./format/commit.ts";
import { FileTable } from "./format/file-table.ts";
import type { FileEntry, TableDelta, TableEntry } from "./format/table-entry.ts";
import { type CollectOptions, type CollectReport, collect } from "./gc/collect.ts";
import { findInbound, openInbound, putInbound, type StoredInbound } from "./inbound.ts";
import {
  artifactKey,
  type DirectoryRef,
  directoryPrefix,
  type SessionRef,
  sessionsPrefix,
  volumeOfPart,
  volumePart,
  volumesPrefix,
} from "./keys.ts";
import { openObject, type StoredObject } from "./plain-objects.ts";
import type { ProgressListener } from "./progress.ts";
import { newCommit, publishDelta } from "./publish-delta.ts";
import { type PublishedFiles, publishFiles } from "./published-files.ts";
import { restore } from "./restore.ts";
import { SharedCache } from "./shared-cache.ts";
import { listSkill, openSkillFile, type SkillFile, type SkillRef } from "./skills.ts";
import { storeChanges } from "./store-changes.ts";
import type { StoreContext } from "./store-context.ts";
import { TableCache } from "./table-cache.ts";
import { type ReadTable, readTable } from "./table-reader.ts";
import { TreeThreads } from "./threads/tree-threads.ts";
import type { FileRecords } from "./tree/file-record.ts";
import type { Owner } from "./tree/write-frames.ts";
import { listTurnLogs, openTurnLog, putTurnLog, type TurnLogPage } from "./turn-logs.ts";
import { WorkingCopy } from "./working-copy.ts";

const DAY_MS = 24 * 60 * 60 * 1000;

/** Memory for unpacked frames of files that are read one by one, in bytes. */
const SHARED_FRAMES_BYTES = 32 * 1024 * 1024;

export interface SessionStoreOptions {
  readonly backend: Backend;
  /** Keeps what was fetched or made on this host's disk. @default nothing is kept */
  readonly cache?: ChunkCacheOptions;
  /** Threads that read and write files. @default the machine's processors, at most 4 */
  readonly threads?: number;
  /**
   * Longest that an activation may live, in ms; the same in every process that uses the store. Nothing is deleted before
   * it was superfluous for this long, and no commit counts that builds on older knowledge without looking again.
   * @default 24 hours
   */
  readonly longestActivationMs?: number;
  /** Told of each object that was made for a session or a volume. */
  readonly onStored?: StoredListener;
  /** @default the system's */
  readonly clock?: Clock;
  /** @default Math.random */
  readonly random?: () => number;
}

export interface HydrateOptions {
  /** Host user and group of everything that is made. @default the process' own */
  readonly owner?: Owner;
  /**
   * For generation 0: what is there already is accepted, and is new to the next mirror. A `restore` over it removes it.
   * @default false
   */
  readonly inUse?: boolean;
  /** Told how much of the content was written. */
  readonly onProgress?: ProgressListener;
  readonly signal?: AbortSignal;
}

/** A file of a generation, found. */
export interface OpenedFile {
  readonly entry: FileEntry;
  /** The content, or the part that was asked for; each chunk verified before it is given. */
  stream(): AsyncGenerator<Buffer>;
}

export interface ArtifactLinkOptions {
  /** How long the link works, in seconds; S3 allows at most 7 days. */
  readonly expiresSeconds: number;
  readonly contentType?: string;
  /** Shown in place, or offered as a download under the artifact's name. @default "attachment" */
  readonly disposition?: "attachment" | "inline";
}

/**
 * Versioned session directories in an object store.
 *
 * A session is a log of numbered commits, of which each names the whole content of its directory; `hydrate` makes a
 * directory equal one of them, and the `WorkingCopy` that it gives commits the next. All that is stored is immutable and
 * made by put-if-absent, so readers need no locks and writers are told when they lost.
 */
export class SessionStore {
  readonly #context: StoreContext;
  readonly #tables: TableCache;

  constructor(options: SessionStoreOptions) {
    const clock = options.clock ?? systemClock;
    this.#context = {
      backend:
        options.onStored === undefined ? options.backend : meteredBackend(options.backend, options.onStored),
      threads: new TreeThreads(options.threads ?? Math.min(4, availableParallelism())),
      sharedFrames: new SharedCache(SHARED_FRAMES_BYTES, (frame) => frame.length),
      cache: options.cache === undefined ? undefined : ChunkCache.open(options.cache, clock),
      clock,
      random: options.random ?? Math.random,
      longestActivationMs: options.longestActivationMs ?? DAY_MS,
    };
    this.#tables = new TableCache(this.#context);
  }

  /** Finds out whether the object store can be used. @throws StoreNotConditionalError and errors of access */
  probe(signal?: AbortSignal): Promise<void> {
    return probeBackend(this.#context.backend, signal);
  }

  /** The newest generation; undefined for a session that has none. One LIST, one GET. */
  readNewest(ref: DirectoryRef, signal?: AbortSignal): Promise<Commit | undefined> {
    return readNewestCommit(this.#context, ref, signal);
  }

  /** @throws GenerationNotFoundError */
  readCommit(ref: DirectoryRef, generation: number, signal?: AbortSignal): Promise<Commit> {
    return readCommit(this.#context, ref, generation, signal);
  }

  /**
   * Generations, newest first, read at once.
   *
   * @param options.before only those below this one
   * @param options.limit most to give, 1 to 1000. @default 20
   */
  async listCommits(
    ref: DirectoryRef,
    options: { readonly before?: number; readonly limit?: number } = {},
    signal?: AbortSignal,
  ): Promise<Commit[]> {
    const generations = await listGenerations(this.#context, ref, { limit: 20, ...options }, signal);
    return await Promise.all(generations.map((generation) => this.readCommit(ref, generation, signal)));
  }

  /**
   * The file table of a generation, which is shared: it must not be changed. Those looked at last are kept in memory.
   *
   * @throws CorruptObjectError, ObjectNotFoundError
   */
  async readTable(ref: DirectoryRef, commit: Commit, signal?: AbortSignal): Promise<FileTable> {
    return await this.#tables.get(ref, commit, signal);
  }

  /**
   * Opens a file of a generation without restoring it.
   *
   * @param path from the session directory; a link is not followed
   * @param options.range part of the content; cut at the file's end
   * @throws PathNotFoundError; UnsafePathError `not-a-file` for a directory or link
   */
  async openFile(
    ref: DirectoryRef,
    commit: Commit,
    path: string | Buffer,
    options: { readonly range?: ByteRange } = {},
    signal?: AbortSignal,
  ): Promise<OpenedFile> {
    splitTreePath(path);
    const entry = (await this.readTable(ref, commit, signal)).get(pathOf(path));
    const shown = textOfPath(pathOf(path));
    if (entry === undefined) throw new PathNotFoundError(shown);
    if (entry.type !== "file") throw new UnsafePathError(shown, "not-a-file", `it is a ${entry.type}`);
    const range = {
      start: options.range?.start ?? 0,
      end: Math.min(options.range?.end ?? entry.size, entry.size),
    };
    return { entry, stream: () => readFileContent(this.#context, ref, commit, entry, range, signal) };
  }

  /** The entries of a directory of a table, or of the session directory itself for "", by name. */
  static listDirectory(table: FileTable, path: string | Buffer): TableEntry[] {
    const prefix = path.length === 0 ? "" : `${pathOf(path)}/`;
    const entries: TableEntry[] = [];
    for (const entry of table.entries()) {
      if (entry.path.startsWith(prefix) && !entry.path.includes("/", prefix.length)) entries.push(entry);
    }
    return entries.sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  /**
   * Makes an empty directory equal a generation.
   *
   * All or nothing (I4): where it fails there is no working copy, so nothing can be committed from the directory, and
   * since it is not empty any more it can't be restored into either; it can only be discarded.
   *
   * @param commit undefined: generation 0, so the directory stays empty
   * @param directory exists, is empty (but for `inUse`), is trusted up to its last part
   * @throws DirectoryNotEmptyError, CorruptObjectError, ObjectNotFoundError, UnsafePathError, TreeIoError, errors of the
   *   store
   */
  async hydrate(
    ref: DirectoryRef,
    commit: Commit | undefined,
    directory: string,
    options: HydrateOptions = {},
  ): Promise<WorkingCopy> {
    directoryPrefix(ref);
    const root = openRoot(directory);
    try {
      const isEmpty = (commit === undefined && options.inUse === true) || readdirSync(root.path).length === 0;
      if (!isEmpty) throw new DirectoryNotEmptyError(directory);
      let read = emptyTable();
      let records: FileRecords = new Map();
      if (commit !== undefined) {
        read = await readTable(this.#context, ref, commit, options.signal);
        const plan = { remove: [], set: [...read.table.entries()], touched: new Set<string>() };
        const { owner, onProgress } = options;
        const job = { ref, root, commit, table: read.table, plan, owner, onProgress };
        records = await restore(this.#context, job, options.signal);
      }
      return new WorkingCopy(this.#context, ref, directory, root, options.owner, commit, read, records);
    } catch (error) {
      root.close();
      throw treeErrorOf(directory, error);
    }
  }

  /**
   * Publishes a generation with the files of the one before, without restoring it: a takeover record, a note.
   *
   * @param base the newest generation; undefined: generation 0
   * @throws EpochRegressedError, CommitUnsettledError, as `WorkingCopy.commit`
   */
  async commitUnchanged(
    ref: DirectoryRef,
    base: Commit | undefined,
    meta: CommitMeta,
    signal?: AbortSignal,
  ): Promise<CommitResult> {
    if (base !== undefined && meta.epoch < base.epoch) throw new EpochRegressedError(meta.epoch, base.epoch);
    const commit: Commit = {
      ...newCommit(this.#context, base, meta),
      entries: base?.entries ?? 0,
      totalBytes: base?.totalBytes ?? 0,
      chain: base?.chain ?? { deltas: [] },
      delta: { set: [], removed: [] },
      inline: Buffer.alloc(0),
      ...(base?.origins === undefined ? {} : { origins: base.origins }),
    };
    return await publishCommit(this.#context, ref, commit, { observedMs: base?.observedMs }, signal);
  }

  /**
   * Publishes a generation with some files of the one before changed, without restoring it.
   *
   * @param base the newest generation; undefined: generation 0
   * @throws UnsafePathError where a file is in the way of a directory, or a directory in that of a file;
   *   QuotaExceededError, ContentSizeError, EpochRegressedError, CommitUnsettledError
   */
  async commitFiles(
    ref: DirectoryRef,
    base: Commit | undefined,
    changes: FileChanges,
    meta: CommitMeta,
    signal?: AbortSignal,
  ): Promise<CommitResult> {
    const known = base === undefined ? emptyTable() : await readTable(this.#context, ref, base, signal);
    const planned = planChanges(known.table, changes, this.#context.clock.now());
    const stored = await storeChanges(this.#context, ref, base, known.table, planned, signal);
    return (await publishDelta(this.#context, ref, base, known, stored, meta, signal)).result;
  }

  /** What has to be set and removed to make one generation into another. */
  async diff(ref: DirectoryRef, from: Commit, to: Commit, signal?: AbortSignal): Promise<TableDelta> {
    const [before, after] = await Promise.all([
      this.readTable(ref, from, signal),
      this.readTable(ref, to, signal),
    ]);
    return before.differenceTo(after);
  }

  /**
   * Commits a new generation that has the files of an earlier one; only table entries are written. All else (note, epoch)
   * is the caller's, who holds the session's lease. A working copy of the session then has to `restore` it.
   *
   * @param newest the generation to build on
   * @param to an earlier generation, or undefined for the empty directory
   * @throws GenerationNotFoundError when that one is beyond its retention, although its record may still be there;
   *   EpochRegressedError, CommitUnsettledError, CorruptObjectError
   */
  async rollback(
    ref: DirectoryRef,
    newest: Commit,
    to: Commit | undefined,
    meta: CommitMeta,
    signal?: AbortSignal,
  ): Promise<CommitResult> {
    const known = await readTable(this.#context, ref, newest, signal);
    const target = to === undefined ? new FileTable() : await this.readTable(ref, to, signal);
    const stored = {
      delta: known.table.differenceTo(target),
      inline: Buffer.alloc(0),
      packs: 0,
      ...(to === undefined ? {} : { from: { ref, generation: to.generation }, origins: to.origins ?? [] }),
    };
    return (await publishDelta(this.#context, ref, newest, known, stored, meta, signal)).result;
  }

  /**
   * Begins a session with the files of a generation of another one of the same tenant; no content moves. The two then go
   * their own ways: the first may be changed, rolled back, collected or deleted.
   *
   * @param commit a generation of `source`
   * @param target has no generations; else the outcome is `overtaken`, with its newest
   * @throws GenerationNotFoundError when that generation is beyond its retention, although its record may still be there;
   *   BadStoreNameError for sessions of two tenants; CommitUnsettledError, CorruptObjectError
   */
  async fork(
    source: SessionRef,
    commit: Commit,
    target: SessionRef,
    meta: CommitMeta,
    signal?: AbortSignal,
  ): Promise<CommitResult> {
    if (target.tenant !== source.tenant) throw new BadStoreNameError("tenant", target.tenant);
    const table = await this.readTable(source, commit, signal);
    return await fork(this.#context, source, commit, table, target, meta, signal);
  }

  /**
   * Deletes what no kept generation needs any more, in two steps: a run marks, and a later one, at least
   * `longestActivationMs` after it, deletes. Safe beside everything else, and wherever it is interrupted; so it may be run by
   * anybody at any time.
   *
   * Kept are the newest generations and the younger ones as the retention says, always the newest and the newest whole one
   * (that is no checkpoint), what forks of the session use, and everything younger than `longestActivationMs`. Artifacts and
   * published files are not touched.
   *
   * @throws errors of the store, CorruptObjectError, FormatTooNewError: nothing is deleted by a run that can't read all that
   *   it must know
   */
  collect(ref: DirectoryRef, options: CollectOptions): Promise<CollectReport> {
    return collect(this.#context, ref, options);
  }

  /**
   * Keeps an accepted attachment, by its content, for 30 days and the longest life of an activation; the same one twice
   * within a day is stored once.
   */
  putInbound(ref: SessionRef, content: Content, signal?: AbortSignal): Promise<StoredInbound> {
    return putInbound(this.#context, ref, content, signal);
  }

  /** Which of some contents, by their SHA-256, are kept and stay so for as long as a message that names them may wait. */
  findInbound(ref: SessionRef, hashes: Iterable<string>, signal?: AbortSignal): Promise<Set<string>> {
    return findInbound(this.#context, ref, hashes, signal);
  }

  /** @throws ObjectNotFoundError; the stream throws CorruptObjectError at its end when the content is another */
  openInbound(ref: SessionRef, sha256: string, signal?: AbortSignal): Promise<StoredObject> {
    return openInbound(this.#context, ref, sha256, signal);
  }

  /**
   * Keeps a file of a reply as a plain object.
   *
   * @param id of the artifact; new for each content
   * @param name as the reader is to see it
   */
  async putArtifact(
    ref: SessionRef,
    id: string,
    name: string,
    content: Content,
    options: { readonly contentType?: string; readonly signal?: AbortSignal } = {},
  ): Promise<void> {
    await this.#put(artifactKey(ref, id, name), content, options.contentType, options.signal);
  }

  /** @param options.range part of the content; cut at its end. @throws ObjectNotFoundError */
  openArtifact(
    ref: SessionRef,
    id: string,
    name: string,
    options: { readonly range?: ByteRange; readonly signal?: AbortSignal } = {},
  ): Promise<StoredObject> {
    return openObject(this.#context.backend, artifactKey(ref, id, name), options);
  }

  /** A link with which anyone may read an artifact for a while; undefined where the store can't make any. */
  presignArtifact(
    ref: SessionRef,
    id: string,
    name: string,
    options: ArtifactLinkOptions,
  ): Promise<string | undefined> {
    return this.#context.backend.presignGet(artifactKey(ref, id, name), {
      expiresSeconds: options.expiresSeconds,
      ...(options.contentType === undefined ? {} : { contentType: options.contentType }),
      contentDisposition: `${options.disposition ?? "attachment"}; filename*=UTF-8''${encodeRfc5987(name)}`,
    });
  }

  /** Keeps the log of an attempt at a turn. Gives its id. */
  putTurnLog(
    ref: SessionRef,
    turn: { readonly turnId: string; readonly startedMs: number },
    content: Buffer,
    signal?: AbortSignal,
  ): Promise<string> {
    return putTurnLog(this.#context, ref, turn, content, signal);
  }

  /**
   * The logs of turns, newest first, at most 1,000 at once. They are collected with the generations of their time.
   *
   * @param options.after the id of the last one of the page before
   */
  listTurnLogs(
    ref: SessionRef,
    options: { readonly limit: number; readonly after?: string | undefined },
    signal?: AbortSignal,
  ): Promise<TurnLogPage> {
    return listTurnLogs(this.#context, ref, options, signal);
  }

  /** @throws ObjectNotFoundError */
  openTurnLog(ref: SessionRef, id: string, signal?: AbortSignal): Promise<StoredObject> {
    return openTurnLog(this.#context, ref, id, signal);
  }

  /** The files of a version of a skill (`skills/<id>/<version>/`); none where there is no such version. */
  listSkill(skill: SkillRef, signal?: AbortSignal): AsyncGenerator<SkillFile> {
    return listSkill(this.#context, skill, signal);
  }

  /** Opens a file of a skill for reading. @throws ObjectNotFoundError */
  openSkillFile(skill: SkillRef, path: string, signal?: AbortSignal): Promise<StoredObject> {
    return openSkillFile(this.#context, skill, path, signal);
  }

  /**
   * Puts the files of a generation that patterns name as plain objects with their content type, for others to read:
   * `<tenant>/published/<sessionId>/<path>`. Those of files that are gone are deleted. May be called again after a failure.
   *
   * Only whoever holds the session's lease should: what two do at once is mixed.
   *
   * @param from the generation that was published last, with the same patterns; undefined where that is not known or the
   *   patterns changed: then all are put, and what is too much is found by listing
   * @param patterns globs over paths from the session directory, as `exclude` of a mirror; none: all are deleted
   */
  async publishFiles(
    ref: SessionRef,
    from: Commit | undefined,
    to: Commit,
    patterns: readonly string[],
    signal?: AbortSignal,
  ): Promise<PublishedFiles> {
    const [before, table] = await Promise.all([
      from === undefined ? undefined : this.readTable(ref, from, signal),
      this.readTable(ref, to, signal),
    ]);
    const target = { commit: to, table };
    return await publishFiles(this.#context, ref, before, target, patterns, signal);
  }

  /**
   * Sessions of a tenant that the store knows, in the order of their ids.
   *
   * @param options.after only ids above this one
   * @param options.limit most to give, 1 to 1000. @default 1000
   */
  async listSessions(
    tenant: string,
    options: { readonly after?: string | undefined; readonly limit?: number } = {},
    signal?: AbortSignal,
  ): Promise<string[]> {
    return await this.#listGroups(sessionsPrefix(tenant), options, signal);
  }

  /** Volumes of a tenant that the store knows, in the order of their keys; otherwise as `listSessions`. */
  async listVolumes(
    tenant: string,
    options: { readonly after?: string | undefined; readonly limit?: number } = {},
    signal?: AbortSignal,
  ): Promise<string[]> {
    const after = options.after === undefined ? undefined : volumePart(options.after);
    const parts = await this.#listGroups(volumesPrefix(tenant), { ...options, after }, signal);
    return parts.map(volumeOfPart);
  }

  /** Ends threads and idle connections. Nothing may be running. */
  async close(): Promise<void> {
    await this.#context.threads.close();
    await this.#context.cache?.close();
    this.#context.backend.close();
  }

  async #listGroups(
    prefix: string,
    options: { readonly after?: string | undefined; readonly limit?: number },
    signal: AbortSignal | undefined,
  ): Promise<string[]> {
    const listing = await this.#context.backend.list(prefix, {
      grouped: true,
      limit: options.limit ?? 1000,
      // Above all keys of that one: `0` comes right after `/`.
      ...(options.after === undefined ? {} : { startAfter: `${prefix}${options.after}0` }),
      signal,
    });
    return listing.groups.map((group) => group.slice(prefix.length, -1));
  }

  async #put(
    key: string,
    content: Content,
    contentType: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const options = contentType === undefined ? { signal } : { signal, contentType };
    await putContent(this.#context.backend, key, content, this.#context.random, options);
  }
}

function emptyTable(): ReadTable {
  return { table: new FileTable(), sinceFull: new Set() };
}

function openRoot(directory: string): DirectoryDescriptor {
  try {
    return DirectoryDescriptor.openRoot(directory);
  } catch (error) {
    throw treeErrorOf(directory, error);
  }
}

/** A file name as the extended form of a header parameter. */
function encodeRfc5987(name: string): string {
  return encodeURIComponent(name).replace(
    /['()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
