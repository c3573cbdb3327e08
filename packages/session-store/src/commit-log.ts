import { randomBytes } from "node:crypto";
import {
  AmbiguousPutError,
  CommitUnsettledError,
  GenerationNotFoundError,
  ObjectNotFoundError,
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
  const [newest] = await listGenerations(context, ref, { limit: 1 }, signal);
  return newest === undefined ? undefined : await readCommit(context, ref, newest, signal);
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

/**
 * Publishes a generation (I3): one put-if-absent of its record.
 *
 * Whatever the put's answer, the truth is what stands under the key. So every answer but a plain success is settled by
 * reading the record back and comparing its id: also "exists", because a proxy or a lost connection may have made a put
 * of ours succeed unseen.
 *
 * @throws CommitUnsettledError when the store let us neither write nor read for as long as we tried
 */
export async function publishCommit(
  context: StoreContext,
  ref: DirectoryRef,
  commit: Commit,
  signal?: AbortSignal,
): Promise<CommitResult> {
  const key = logKey(ref, commit.generation);
  const record = encodeCommit(commit);
  let sent = false;
  try {
    return await retrying<CommitResult>(
      async () => {
        const earlier = sent;
        sent = true;
        try {
          const { outcome } = await context.backend.putIfAbsent(key, record, { signal });
          if (outcome === "created") return { outcome: "committed", commit };
        } catch (error) {
          if (!(error instanceof AmbiguousPutError)) {
            // Refused outright; but an earlier try may have taken place.
            sent = earlier;
            throw error;
          }
          const standing = await readStanding(context, ref, commit.generation, signal);
          // Nothing there, so far: the put may still arrive, or be sent again; the record is the same.
          if (standing === undefined) throw error;
          return settled(commit, standing);
        }
        const standing = await readStanding(context, ref, commit.generation, signal);
        if (standing === undefined) throw new AmbiguousPutError(key, "the key exists and can't be read");
        return settled(commit, standing);
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

function settled(own: Commit, standing: Commit): CommitResult {
  if (standing.id === own.id) return { outcome: "committed", commit: own };
  return { outcome: "overtaken", commit: standing };
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
