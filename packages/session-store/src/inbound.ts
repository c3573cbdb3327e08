import { createHash, randomBytes } from "node:crypto";
import { type Content, contentSize, type ListedObject } from "./backend/backend.ts";
import { putContent } from "./backend/put-content.ts";
import { ObjectNotFoundError } from "./errors.ts";
import { inboundKey, inboundPrefix, type SessionRef } from "./keys.ts";
import { openObject, type StoredObject } from "./plain-objects.ts";
import type { StoreContext } from "./store-context.ts";

/** How long attachments stay at least, beyond the longest activation: as long as their message may wait. */
export const INBOUND_KEPT_MS = 30 * 24 * 60 * 60 * 1000;

/** Copies of one attachment that are looked at: far more than there are when each stays for days. */
const COPIES_MAX = 1000;

/** Of a SHA-256 in hexadecimal. */
const HASH_LENGTH = 64;

/** An accepted attachment, as it can be found again. */
export interface StoredInbound {
  readonly sha256: string;
  readonly sizeBytes: number;
}

/**
 * Keeps an accepted attachment, by its content.
 *
 * The same one twice is stored once while it is young. An older copy may be collected before the message that names it
 * has been answered, so that a new one is made beside it, under a name of its own.
 */
export async function putInbound(
  context: StoreContext,
  ref: SessionRef,
  content: Content,
  signal: AbortSignal | undefined,
): Promise<StoredInbound> {
  const sizeBytes = contentSize(content);
  const sha256 = await hashOf(content);
  const listing = await context.backend.list(inboundPrefix(ref, sha256), { limit: COPIES_MAX, signal });
  const isYoung = ({ modifiedMs, sizeBytes: size }: ListedObject): boolean =>
    size === sizeBytes && listing.storeTimeMs - modifiedMs < context.longestActivationMs;
  if (!listing.objects.some(isYoung)) {
    const key = inboundKey(ref, sha256, randomBytes(8).toString("hex"));
    await putContent(context.backend, key, content, context.random, { signal });
  }
  return { sha256, sizeBytes };
}

/**
 * Which of some contents are kept, and will be for as long as a message that names them now may wait.
 *
 * However many are asked for, there are no more requests than pages of what is kept, nor than contents.
 */
export async function findInbound(
  context: StoreContext,
  ref: SessionRef,
  hashes: Iterable<string>,
  signal: AbortSignal | undefined,
): Promise<Set<string>> {
  const wanted = [...new Set(hashes)].sort();
  const found = new Set<string>();
  for (let at = 0; at < wanted.length; ) {
    const first = inboundPrefix(ref, wanted[at] as string);
    const prefix = first.slice(0, -HASH_LENGTH);
    const listing = await context.backend.list(prefix, { startAfter: first, limit: COPIES_MAX, signal });
    let last = "";
    for (const { key, modifiedMs } of listing.objects) {
      last = key.slice(prefix.length, prefix.length + HASH_LENGTH);
      if (listing.storeTimeMs - modifiedMs < context.longestActivationMs) found.add(last);
    }
    if (!listing.more) break;
    // Copies of the last one may go on in the next page; that there is a young one among the others decides.
    const next = wanted.findIndex(
      (hash, index) => index > at && (found.has(last) ? hash > last : hash >= last),
    );
    if (next === -1) break;
    at = next;
  }
  return new Set(wanted.filter((hash) => found.has(hash)));
}

/** @throws ObjectNotFoundError; the stream throws CorruptObjectError at its end when the content is another */
export async function openInbound(
  context: StoreContext,
  ref: SessionRef,
  sha256: string,
  signal: AbortSignal | undefined,
): Promise<StoredObject> {
  const prefix = inboundPrefix(ref, sha256);
  const { objects } = await context.backend.list(prefix, { limit: COPIES_MAX, signal });
  const newest = objects.reduce<ListedObject | undefined>(
    (best, object) => (best === undefined || object.modifiedMs > best.modifiedMs ? object : best),
    undefined,
  );
  if (newest === undefined) throw new ObjectNotFoundError(prefix);
  return await openObject(context.backend, newest.key, { sha256, signal });
}

async function hashOf(content: Content): Promise<string> {
  const hash = createHash("sha256");
  if (Buffer.isBuffer(content)) hash.update(content);
  else for await (const part of content.open()) hash.update(part);
  return hash.digest("hex");
}
