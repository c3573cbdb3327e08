import { createHash, randomBytes } from "node:crypto";
import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { CorruptObjectError, FormatTooNewError } from "../errors.ts";
import { ByteReader } from "./byte-reader.ts";
import { ByteWriter } from "./byte-writer.ts";
import { TABLE_BYTES_MAX } from "./limits.ts";
import { decodeDelta, decodeSources, encodeDelta } from "./table-codec.ts";
import type { FrameSource, TableDelta } from "./table-entry.ts";

// Layout of a table object: "LSTB", format version (1 byte), salt (16 random bytes; not in version 1), zstd of a delta.
// Its key ends in the hash of all that, and the salt makes the key this writer's own: a table of the same content that a
// collector is about to delete is another object.
const MAGIC = Buffer.from("LSTB");
const VERSION = 2;
const PREFIX_BYTES = 5;
const SALT_BYTES = 16;
const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** Writes a full table or a rollup as an object's content; `hash` is the SHA-256 of the content, in hexadecimal. */
export async function encodeTableObject(delta: TableDelta): Promise<{ content: Buffer; hash: string }> {
  const writer = new ByteWriter(64 * 1024 + delta.set.length * 100);
  encodeDelta(writer, delta);
  const packed = await compress(writer.finish(), { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
  const content = Buffer.concat([MAGIC, Buffer.from([VERSION]), randomBytes(SALT_BYTES), packed]);
  return { content, hash: createHash("sha256").update(content).digest("hex") };
}

/**
 * Reads a table object.
 *
 * @param hash what its key says
 * @throws CorruptObjectError, FormatTooNewError
 */
export function decodeTableObject(key: string, hash: string, content: Buffer): Promise<TableDelta> {
  return decodeWith(key, hash, content, (reader) => {
    const delta = decodeDelta(reader);
    reader.end();
    return delta;
  });
}

/** Reads no more of a table object than which objects hold the content that it names. @throws as above */
export function decodeTableSources(key: string, hash: string, content: Buffer): Promise<FrameSource[]> {
  return decodeWith(key, hash, content, decodeSources);
}

async function decodeWith<T>(
  key: string,
  hash: string,
  content: Buffer,
  decode: (reader: ByteReader) => T,
): Promise<T> {
  if (createHash("sha256").update(content).digest("hex") !== hash)
    throw new CorruptObjectError(key, "wrong checksum");
  if (!content.subarray(0, 4).equals(MAGIC)) throw new CorruptObjectError(key, "not a table");
  const version = content[4] ?? 0;
  if (version > VERSION) throw new FormatTooNewError(key, version, VERSION);
  const packed = content.subarray(version === 1 ? PREFIX_BYTES : PREFIX_BYTES + SALT_BYTES);
  try {
    return decode(new ByteReader(await decompress(packed, { maxOutputLength: TABLE_BYTES_MAX })));
  } catch (error) {
    throw new CorruptObjectError(key, error instanceof Error ? error.message : String(error), error);
  }
}
