import { randomBytes } from "node:crypto";
import {
  AmbiguousPutError,
  CommitUnsettledError,
  GenerationNotFoundError,
  ObjectNotFoundError,
  StaleMirrorError,
  StoreUnavailableError,
} from "./errors.ts";
import type { Commit } from "./format/commit.ts";
import { decodeCommit, encodeCommit } from "./format/commit-record.ts";
import { type DirectoryRef, generationOfLogKey, logKey, logPrefix } from "./keys.ts";
import { DEFAULT_RETRY, retrying } from "./retry.ts";
import type { StoreContext } from "./store-context.ts";

/** What became of a commit: it is the newest generation, or somebody else's stands in its place. */
export type CommitResult =
  | { readonly outcome: "committed"; readonly commit: Commit }
  | { readonly outcome: "overtaken"; readonly commit: Commit };

/** A new id for a commit. */
export function newCommitId(): string {
  return randomBytes(16).toString("hex");
}

/** The newest generation of a directory, or undefined where there is none: one LIST and one GET. */
export async function readNewestCommit(
  context: StoreContext,
  ref: DirectoryRef,
  signal?: AbortSignal,
): Promise<Commit | undefined> {
  const { generation, storeTimeMs } = await findNewest(context, ref, signal);
  if (generation === 0) return undefined;
  return { ...(await readCommit(context, ref, generation, signal)), observedMs: storeTimeMs };
}

/** One generation. @throws GenerationNotFoundError, CorruptObjectError, FormatTooNewError */
export async function readCommit(
  context: StoreContext,
  ref: DirectoryRef,
  generation: number,
  signal?: AbortSignal,
): Promise<Commit> {
  const key = logKey(ref, generation);
  try {
    return decodeCommit(key, generation, await context.backend.get(key, { signal }));
  } catch (error) {
    if (error instanceof ObjectNotFoundError) throw new GenerationNotFoundError(generation);
    throw error;
  }
}

/**
 * Generations that exist, newest first.
 *
 * @param options.before only those below this one
 * @param options.limit most to give, 1 to 1000. @default 100
 */
export async function listGenerations(
  context: StoreContext,
  ref: DirectoryRef,
  options: { readonly before?: number; readonly limit?: number } = {},
  signal?: AbortSignal,
): Promise<number[]> {
  const listing = await context.backend.list(logPrefix(ref), {
    limit: options.limit ?? 100,
    ...(options.before === undefined ? {} : { startAfter: logKey(ref, options.before) }),
    signal,
  });
  return listing.objects.map((object) => generationOfLogKey(object.key));
}

/** What `publishCommit` needs to know besides the commit. */
export interface Publication {
  /** `observedMs` of the parent. */
  readonly observedMs: number | undefined;
  /**
   * Called when so much time has passed that what the commit newly refers to may have been collected: says why it can't be
   * published, or nothing.
   *
   * @param nowMs by the store's clock
   */
  readonly lapsed?: (nowMs: number) => Promise<Error | undefined>;
}

/**
 * Publishes a generation (I3): one put-if-absent of its record.
 *
 * Whatever the put's answer, the truth is what stands under the key. So every answer but a plain success is settled by
 * reading the record back and comparing its id: also "exists", because a proxy or a lost connection may have made a put
 * of ours succeed unseen.
 *
 * Nor is a plain success always one: this process may have been stopped for so long that the generation it builds on, and
 * all after it, were collected, so that the put made a record below the newest, where nobody looks. Collectors leave
 * everything alone for the longest life of an activation. So by the store's clock:
 *
 * - known for longer than half of that, or not known when: the parent must be the newest before the put is sent;
 * - an answer that comes later than half of that counts once a LIST shows the record as the newest, and what it refers to
 *   is still there. If that is not, nobody could restore the generation, so it is taken back.
 *
 * @throws CommitUnsettledError when the store let us neither write nor read for as long as we tried; what `lapsed` says;
 *   GenerationNotFoundError when the parent is not there
 */
export async function publishCommit(
  context: StoreContext,
  ref: DirectoryRef,
  commit: Commit,
  publication: Publication,
  signal?: AbortSignal,
): Promise<CommitResult> {
  let since = publication.observedMs;
  if (since === undefined || isLate(context, since, context.clock.now())) {
    const newest = await findNewest(context, ref, signal);
    if (newest.generation !== commit.parent)
      return overtakenBy(await readNewestCommit(context, ref, signal), commit.parent);
    const lapsed = await publication.lapsed?.(newest.storeTimeMs);
    if (lapsed !== undefined) throw lapsed;
    since = newest.storeTimeMs;
  }
  const put = await putRecord(context, ref, commit, signal);
  if (put.outcome === "overtaken") return put;
  try {
    return await confirmed(context, ref, commit, put.storeTimeMs, since, publication, signal);
  } catch (error) {
    if (error instanceof StaleMirrorError || error instanceof GenerationNotFoundError) throw error;
    throw new CommitUnsettledError(commit.generation, commit.id, error);
  }
}

type PutRecord =
  /** `storeTimeMs`: when, if an answer said. */
  | { readonly outcome: "stands"; readonly storeTimeMs: number | undefined }
  | { readonly outcome: "overtaken"; readonly commit: Commit };

/** Puts a commit's record until it is known what stands under its key. */
async function putRecord(
  context: StoreContext,
  ref: DirectoryRef,
  commit: Commit,
  signal: AbortSignal | undefined,
): Promise<PutRecord> {
  const key = logKey(ref, commit.generation);
  const record = encodeCommit(commit);
  const settled = (standing: Commit): PutRecord =>
    standing.id === commit.id
      ? { outcome: "stands", storeTimeMs: undefined }
      : { outcome: "overtaken", commit: standing };
  let sent = false;
  try {
    return await retrying<PutRecord>(
      async () => {
        const earlier = sent;
        sent = true;
        try {
          const { outcome, storeTimeMs } = await context.backend.putIfAbsent(key, record, { signal });
          if (outcome === "created") return { outcome: "stands", storeTimeMs };
        } catch (error) {
          if (!(error instanceof AmbiguousPutError)) {
            // Refused outright; but an earlier try may have taken place.
            sent = earlier;
            throw error;
          }
          const standing = await readStanding(context, ref, commit.generation, signal);
          // Nothing there, so far: the put may still arrive, or be sent again; the record is the same.
          if (standing === undefined) throw error;
          return settled(standing);
        }
        const standing = await readStanding(context, ref, commit.generation, signal);
        if (standing === undefined) throw new AmbiguousPutError(key, "the key exists and can't be read");
        return settled(standing);
      },
      (error) => error instanceof AmbiguousPutError || error instanceof StoreUnavailableError,
      DEFAULT_RETRY,
      context.random,
      signal,
    );
  } catch (error) {
    if (!sent) throw error;
    throw new CommitUnsettledError(commit.generation, commit.id, error);
  }
}

/** Decides whether a record of ours that stands counts. */
async function confirmed(
  context: StoreContext,
  ref: DirectoryRef,
  commit: Commit,
  putMs: number | undefined,
  since: number,
  publication: Publication,
  signal: AbortSignal | undefined,
): Promise<CommitResult> {
  if (putMs !== undefined && !isLate(context, since, putMs))
    return { outcome: "committed", commit: { ...commit, observedMs: putMs } };
  const newest = await findNewest(context, ref, signal);
  if (newest.generation !== commit.generation)
    return overtakenBy(await readNewestCommit(context, ref, signal), commit.parent);
  if (isLate(context, since, newest.storeTimeMs)) {
    const lapsed = await publication.lapsed?.(newest.storeTimeMs);
    if (lapsed !== undefined) {
      await context.backend.delete([logKey(ref, commit.generation)]);
      throw lapsed;
    }
  }
  return { outcome: "committed", commit: { ...commit, observedMs: newest.storeTimeMs } };
}

/** The store's times are cut to the second, so a span between two of them may be up to a second longer than it seems. */
const CLOCK_STEP_MS = 1000;

/** Whether so much time lies between two times of the store that a collector may have acted upon what it saw before both. */
export function isLate(context: StoreContext, sinceMs: number, nowMs: number): boolean {
  return nowMs - sinceMs + CLOCK_STEP_MS > context.longestActivationMs / 2;
}

function overtakenBy(newest: Commit | undefined, parent: number): CommitResult {
  // Nothing above the parent, and not the parent: the store was emptied, or set back.
  if (newest === undefined || newest.generation < parent) throw new GenerationNotFoundError(parent);
  return { outcome: "overtaken", commit: newest };
}

/** The number of the newest generation (0: none) and when the store said so: one LIST. */
export async function findNewest(
  context: StoreContext,
  ref: DirectoryRef,
  signal: AbortSignal | undefined,
): Promise<{ readonly generation: number; readonly storeTimeMs: number }> {
  const { objects, storeTimeMs } = await context.backend.list(logPrefix(ref), { limit: 1, signal });
  return { generation: objects[0] === undefined ? 0 : generationOfLogKey(objects[0].key), storeTimeMs };
}

async function readStanding(
  context: StoreContext,
  ref: DirectoryRef,
  generation: number,
  signal: AbortSignal | undefined,
): Promise<Commit | undefined> {
  try {
    return await readCommit(context, ref, generation, signal);
  } catch (error) {
    if (error instanceof GenerationNotFoundError) return undefined;
    throw error;
  }
}
