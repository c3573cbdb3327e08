import { createHash } from "node:crypto";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { CommitTooLargeError, CorruptObjectError, FormatTooNewError } from "../errors.ts";
import { ByteReader, MalformedBytesError } from "./byte-reader.ts";
import { ByteWriter } from "./byte-writer.ts";
import { type Commit, type CommitKind, commitKinds, type ForkOrigin, type JsonObject } from "./commit.ts";
import { RECORD_BYTES_MAX } from "./limits.ts";
import { isStoreName } from "./store-name.ts";
import { decodeDelta, encodeDelta } from "./table-codec.ts";

// Layout of a commit record:
//   "LSCR", format version (1 byte), length of the packed head (4 bytes, little endian),
//   packed head: zstd of (length of the JSON (LEB128), JSON, 0 or 1, with 1 the delta),
//   inline content: zstd frames, addressed from their beginning,
//   SHA-256 of all before (32 bytes).
const MAGIC = Buffer.from("LSCR");
// Version 2 has sources of other sessions, origins and repacked tables; its writers name no object by its content alone.
const VERSION = 2;
const PREFIX_BYTES = 9;
const HASH_BYTES = 32;
const COMPRESSION = { params: { [constants.ZSTD_c_compressionLevel]: 3 } };

/**
 * Writes a commit as an object's content.
 *
 * @throws CommitTooLargeError beyond half of what can be read: a takeover, which has all of it, can always carry on what
 *   the commit before it said
 */
export function encodeCommit(commit: Commit): Buffer {
  const { delta, inline, observedMs: _, ...head } = commit;
  const writer = new ByteWriter();
  const json = Buffer.from(JSON.stringify(head));
  writer.integer(json.length);
  writer.bytes(json);
  writer.byte(delta === undefined ? 0 : 1);
  if (delta !== undefined) encodeDelta(writer, delta);
  const unpacked = writer.finish();
  const limit = commit.kind === "takeover" ? RECORD_BYTES_MAX : RECORD_BYTES_MAX / 2;
  if (unpacked.length > limit) throw new CommitTooLargeError(commit.generation, unpacked.length, limit);
  const packed = zstdCompressSync(unpacked, COMPRESSION);
  const prefix = Buffer.alloc(PREFIX_BYTES);
  MAGIC.copy(prefix);
  prefix[4] = VERSION;
  prefix.writeUInt32LE(packed.length, 5);
  const body = Buffer.concat([prefix, packed, inline]);
  return Buffer.concat([body, createHash("sha256").update(body).digest()]);
}

/**
 * Reads a commit record.
 *
 * @param generation the generation that its key names; the record must say the same
 * @throws CorruptObjectError, FormatTooNewError
 */
export function decodeCommit(key: string, generation: number, bytes: Buffer): Commit {
  if (bytes.length < PREFIX_BYTES + HASH_BYTES || !bytes.subarray(0, 4).equals(MAGIC)) {
    throw new CorruptObjectError(key, "not a commit record");
  }
  const version = bytes[4] ?? 0;
  if (version > VERSION) throw new FormatTooNewError(key, version, VERSION);
  const body = bytes.subarray(0, bytes.length - HASH_BYTES);
  if (!createHash("sha256").update(body).digest().equals(bytes.subarray(body.length))) {
    throw new CorruptObjectError(key, "wrong checksum");
  }
  const inlineStart = PREFIX_BYTES + bytes.readUInt32LE(5);
  if (inlineStart > body.length) throw new CorruptObjectError(key, "the head is longer than the record");
  try {
    const reader = new ByteReader(
      zstdDecompressSync(body.subarray(PREFIX_BYTES, inlineStart), { maxOutputLength: RECORD_BYTES_MAX }),
    );
    const head: unknown = JSON.parse(reader.bytes(reader.count(1)).toString("utf8"));
    const delta = reader.byte() === 1 ? decodeDelta(reader) : undefined;
    reader.end();
    const commit = { ...checkHead(head), delta, inline: body.subarray(inlineStart) };
    if (commit.generation !== generation)
      throw new MalformedBytesError(`it says generation ${commit.generation}`);
    return commit;
  } catch (error) {
    throw new CorruptObjectError(key, error instanceof Error ? error.message : String(error), error);
  }
}

function checkHead(head: unknown): Omit<Commit, "delta" | "inline"> {
  if (!isObject(head)) throw new MalformedBytesError("the head is no object");
  const chain = head.chain;
  if (!isObject(chain) || !Array.isArray(chain.deltas)) throw new MalformedBytesError("chain");
  const deltas = chain.deltas.map((value: unknown) => integerOf("chain.deltas", value));
  return {
    generation: integerOf("generation", head.generation),
    parent: integerOf("parent", head.parent),
    epoch: integerOf("epoch", head.epoch),
    nonce: stringOf("nonce", head.nonce),
    id: stringOf("id", head.id),
    worker: stringOf("worker", head.worker),
    time: stringOf("time", head.time),
    kind: kindOf(head.kind),
    partial: head.partial === true,
    note: noteOf(head.note),
    entries: integerOf("entries", head.entries),
    totalBytes: integerOf("totalBytes", head.totalBytes),
    chain: {
      ...(chain.full === undefined ? {} : { full: stringOf("chain.full", chain.full) }),
      ...(chain.rollup === undefined ? {} : { rollup: stringOf("chain.rollup", chain.rollup) }),
      deltas,
    },
    ...(head.origins === undefined ? {} : { origins: originsOf(head.origins) }),
    ...(head.repacked === true ? { repacked: true } : {}),
  };
}

function originsOf(value: unknown): ForkOrigin[] {
  if (!Array.isArray(value)) throw new MalformedBytesError("origins");
  return value.map((origin: unknown) => {
    if (!isObject(origin) || typeof origin.sessionId !== "string" || !isStoreName(origin.sessionId))
      throw new MalformedBytesError("origins");
    return { sessionId: origin.sessionId, generation: integerOf("origins", origin.generation) };
  });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function integerOf(name: string, value: unknown): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0)
    throw new MalformedBytesError(name);
  return value;
}

function stringOf(name: string, value: unknown): string {
  if (typeof value !== "string") throw new MalformedBytesError(name);
  return value;
}

function kindOf(value: unknown): CommitKind {
  const kind = commitKinds.find((known) => known === value);
  if (kind === undefined) throw new MalformedBytesError("kind");
  return kind;
}

function noteOf(value: unknown): JsonObject {
  // It came out of JSON.parse, so every value in it is a JSON value.
  if (!isObject(value)) throw new MalformedBytesError("note");
  return value as JsonObject;
}
