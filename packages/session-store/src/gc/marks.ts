import { createHash } from "node:crypto";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import type { ListedObject } from "../backend/backend.ts";
import { CorruptObjectError, FormatTooNewError, ObjectNotFoundError } from "../errors.ts";
import { RECORD_BYTES_MAX } from "../format/limits.ts";
import { type DirectoryRef, marksPrefix } from "../keys.ts";
import type { StoreContext } from "../store-context.ts";
import { listAll } from "../store-listing.ts";

// What collectors tell each other, and those who would refer to old objects anew. Layout of a mark object: "LSGC",
// format version (1 byte), zstd of JSON, SHA-256 of all before (32 bytes).
const MAGIC = Buffer.from("LSGC");
const VERSION = 1;
const PREFIX_BYTES = 5;
const HASH_BYTES = 32;
const COMPRESSION = { params: { [constants.ZSTD_c_compressionLevel]: 3 } };

/** A collector that merges marks removes those it merged: whoever was about to read them looks again, this often. */
const READ_TRIES = 10;

/** What collectors have found superfluous in a directory. */
export interface Marks {
  /** Generations below this one were given up and never come back, whatever the retention becomes. 0: none were. */
  readonly floor: number;
  /** Objects that nothing referred to, by their key below the directory's prefix: since when, by the store's clock, in ms. */
  readonly keys: ReadonlyMap<string, number>;
  /** The mark objects that say so. */
  readonly objects: readonly string[];
}

/** What a mark object says. */
export interface MarkObject {
  readonly floor: number;
  /** First seen superfluous by the collector that writes this: marked when the store takes the object. */
  readonly added: readonly string[];
  /** Merged from older mark objects, with the time of each. */
  readonly kept: ReadonlyMap<string, number>;
}

/**
 * Reads all marks of a directory: one LIST, and a GET each of what is nearly always at most one object.
 *
 * @throws CorruptObjectError, FormatTooNewError: nothing may then be deleted, nor old objects be referred to
 */
export async function readMarks(
  context: StoreContext,
  ref: DirectoryRef,
  signal: AbortSignal | undefined,
): Promise<Marks> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await tryReadMarks(context, ref, signal);
    } catch (error) {
      if (!(error instanceof ObjectNotFoundError) || attempt === READ_TRIES) throw error;
    }
  }
}

async function tryReadMarks(
  context: StoreContext,
  ref: DirectoryRef,
  signal: AbortSignal | undefined,
): Promise<Marks> {
  const objects: string[] = [];
  const keys = new Map<string, number>();
  let floor = 0;
  for await (const page of listAll(context, marksPrefix(ref), signal)) {
    for (const object of page.objects) {
      const marks = decodeMarks(object, await context.backend.get(object.key, { signal }));
      objects.push(object.key);
      floor = Math.max(floor, marks.floor);
      for (const [key, markedMs] of marks.keys)
        keys.set(key, Math.min(keys.get(key) ?? Number.POSITIVE_INFINITY, markedMs));
    }
  }
  return { floor, keys, objects };
}

/** Writes a mark object's content. */
export function encodeMarks({ floor, added, kept }: MarkObject): Buffer {
  const groups = new Map<number, string[]>();
  for (const [key, markedMs] of kept) {
    const group = groups.get(markedMs);
    if (group === undefined) groups.set(markedMs, [key]);
    else group.push(key);
  }
  const json = JSON.stringify({ floor, added, kept: [...groups] });
  const packed = zstdCompressSync(Buffer.from(json), COMPRESSION);
  const body = Buffer.concat([MAGIC, Buffer.from([VERSION]), packed]);
  return Buffer.concat([body, createHash("sha256").update(body).digest()]);
}

function decodeMarks(
  { key, modifiedMs }: ListedObject,
  bytes: Buffer,
): { floor: number; keys: Map<string, number> } {
  const body = bytes.subarray(0, Math.max(0, bytes.length - HASH_BYTES));
  if (!body.subarray(0, 4).equals(MAGIC)) throw new CorruptObjectError(key, "not a mark object");
  const version = body[4] ?? 0;
  if (version > VERSION) throw new FormatTooNewError(key, version, VERSION);
  if (!createHash("sha256").update(body).digest().equals(bytes.subarray(body.length)))
    throw new CorruptObjectError(key, "wrong checksum");
  const json = zstdDecompressSync(body.subarray(PREFIX_BYTES), { maxOutputLength: RECORD_BYTES_MAX });
  // The checksum says that a collector wrote it.
  const { floor, added, kept } = JSON.parse(json.toString()) as {
    floor: number;
    added: string[];
    kept: [number, string[]][];
  };
  const keys = new Map(added.map((name) => [name, modifiedMs]));
  for (const [markedMs, names] of kept) for (const name of names) keys.set(name, markedMs);
  return { floor, keys };
}
