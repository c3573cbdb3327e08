import { createHash, randomBytes } from "node:crypto";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { putContent } from "../backend/put-content.ts";
import { forEachBounded } from "../bounded.ts";
import { readCommit } from "../commit-log.ts";
import { CorruptObjectError, GenerationNotFoundError, ObjectNotFoundError } from "../errors.ts";
import { RECORD_BYTES_MAX } from "../format/limits.ts";
import {
  type DirectoryRef,
  generationOfLogKey,
  logPrefix,
  pinKey,
  type SessionRef,
  sessionOfPinKey,
} from "../keys.ts";
import type { StoreContext } from "../store-context.ts";
import { listAll } from "../store-listing.ts";

// A pin keeps objects of a session alive that a fork of it names. It is put into the session before the fork is committed,
// and lives as long as a generation in the fork's log says that it comes from that session. Its key names the fork; its
// content is the zstd of a JSON array of keys, after the SHA-256 of that.
const HASH_BYTES = 32;

/** Records of a fork that are read at once. */
const READS_MAX = 8;

/**
 * - `held`: the fork was committed and uses the session's objects.
 * - `pending`: so young that the fork may still be being made.
 * - `released`: neither.
 */
export type PinState = "held" | "pending" | "released";

/** Pins objects of a session for a fork. @returns the pin's key */
export async function putPin(
  context: StoreContext,
  origin: SessionRef,
  fork: SessionRef,
  keys: readonly string[],
  signal: AbortSignal | undefined,
): Promise<string> {
  const key = pinKey(origin, fork.sessionId, randomBytes(8).toString("hex"));
  const packed = zstdCompressSync(Buffer.from(JSON.stringify(keys)));
  const content = Buffer.concat([createHash("sha256").update(packed).digest(), packed]);
  await putContent(context.backend, key, content, context.random, { signal });
  return key;
}

/**
 * The keys of the objects that a pin keeps, below the session's prefix; none where a fork has just taken its pin back.
 *
 * @throws CorruptObjectError
 */
export async function readPin(
  context: StoreContext,
  key: string,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const bytes = await context.backend.get(key, { signal }).catch((error: unknown) => {
    if (error instanceof ObjectNotFoundError) return undefined;
    throw error;
  });
  if (bytes === undefined) return [];
  const packed = bytes.subarray(HASH_BYTES);
  if (!createHash("sha256").update(packed).digest().equals(bytes.subarray(0, HASH_BYTES)))
    throw new CorruptObjectError(key, "wrong checksum");
  const json = zstdDecompressSync(packed, { maxOutputLength: RECORD_BYTES_MAX });
  // The checksum says that a fork wrote it.
  return JSON.parse(json.toString()) as string[];
}

/** @param isYoung whether the pin was put less than the longest life of an activation ago */
export async function pinState(
  context: StoreContext,
  origin: DirectoryRef,
  key: string,
  isYoung: boolean,
  signal: AbortSignal | undefined,
): Promise<PinState> {
  const fork = { tenant: origin.tenant, sessionId: sessionOfPinKey(key) };
  if ("sessionId" in origin && (await usesOrigin(context, fork, origin.sessionId, signal))) return "held";
  return isYoung ? "pending" : "released";
}

/** Whether a generation that the fork could still go back to names the session. The newest one nearly always tells. */
async function usesOrigin(
  context: StoreContext,
  fork: SessionRef,
  origin: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const [newest, ...older] = await generationsOf(context, fork, signal);
  if (newest === undefined) return false;
  if (await namesOrigin(context, fork, newest, origin, signal)) return true;
  let found = false;
  await forEachBounded(older, READS_MAX, async (generation) => {
    // Not by `||=`, which decides before it waits: an answer that came later took back what an earlier one had found.
    if (!found && (await namesOrigin(context, fork, generation, origin, signal))) found = true;
  });
  return found;
}

async function generationsOf(
  context: StoreContext,
  ref: SessionRef,
  signal: AbortSignal | undefined,
): Promise<number[]> {
  const generations: number[] = [];
  for await (const page of listAll(context, logPrefix(ref), signal))
    generations.push(...page.objects.map((object) => generationOfLogKey(object.key)));
  return generations;
}

async function namesOrigin(
  context: StoreContext,
  fork: SessionRef,
  generation: number,
  origin: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  try {
    const { origins = [] } = await readCommit(context, fork, generation, signal);
    return origins.some(({ sessionId }) => sessionId === origin);
  } catch (error) {
    // Collected since it was listed.
    if (error instanceof GenerationNotFoundError) return false;
    throw error;
  }
}
