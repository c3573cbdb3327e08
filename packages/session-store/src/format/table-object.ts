import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { CorruptObjectError, FormatTooNewError } from "../errors.ts";
import { ByteReader } from "./byte-reader.ts";
import { ByteWriter } from "./byte-writer.ts";
import { TABLE_BYTES_MAX } from "./limits.ts";
import { decodeDelta, encodeDelta } from "./table-codec.ts";
import type { TableDelta } from "./table-entry.ts";

// Layout of a table object: "LSTB", format version (1 byte), zstd of a delta. Its key ends in the hash of all that.
const MAGIC = Buffer.from("LSTB");
const VERSION = 1;
const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** Writes a full table or a rollup as an object's content; `hash` is the SHA-256 of the content, in hexadecimal. */
export async function encodeTableObject(delta: TableDelta): Promise<{ content: Buffer; hash: string }> {
  const writer = new ByteWriter(64 * 1024 + delta.set.length * 100);
  encodeDelta(writer, delta);
  const packed = await compress(writer.finish(), { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
  const content = Buffer.concat([MAGIC, Buffer.from([VERSION]), packed]);
  return { content, hash: createHash("sha256").update(content).digest("hex") };
}

/**
 * Reads a table object.
 *
 * @param hash what its key says
 * @throws CorruptObjectError, FormatTooNewError
 */
export async function decodeTableObject(key: string, hash: string, content: Buffer): Promise<TableDelta> {
  if (createHash("sha256").update(content).digest("hex") !== hash)
    throw new CorruptObjectError(key, "wrong checksum");
  if (!content.subarray(0, 4).equals(MAGIC)) throw new CorruptObjectError(key, "not a table");
  const version = content[4] ?? 0;
  if (version > VERSION) throw new FormatTooNewError(key, version, VERSION);
  try {
    const reader = new ByteReader(
      await decompress(content.subarray(5), { maxOutputLength: TABLE_BYTES_MAX }),
    );
    const delta = decodeDelta(reader);
    reader.end();
    return delta;
  } catch (error) {
    throw new CorruptObjectError(key, error instanceof Error ? error.message : String(error), error);
  }
}
