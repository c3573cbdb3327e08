import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";

// A frame is a zstd frame, or, where that would not be shorter, the plain bytes as they are: photographs and archives then
// cost neither time nor memory to unpack. Which of the two is told by the length, which the table names beside the plain
// one. Plain bytes that begin like a zstd frame are packed all the same: a frame of an earlier version of the format may
// have exactly the plain length, too, and is told by its beginning.

/** Fast enough not to be the bottleneck before any network; higher levels gain a tenth in size for twice the time. */
const COMPRESSION = { [constants.ZSTD_c_compressionLevel]: 1 };

/** How zstd frames begin, RFC 8878, 3.1.1. */
const MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);

/** Most bytes that zstd makes of incompressible ones, `ZSTD_COMPRESSBOUND` of zstd.h. */
export function packedBytesMax(length: number): number {
  return length + (length >>> 8) + 64;
}

/** From so many bytes on, a few places are tried first: to pack what can't be made shorter takes as long as to hash it. */
const SAMPLED_FROM_BYTES = 256 * 1024;
const SAMPLES = 4;
const SAMPLE_BYTES = 8 * 1024;

/** Samples that do not shrink below this share are taken for photographs, archives and the like. */
const WORTHWHILE_SHARE = 0.97;

/** Packs the plain bytes of a frame. The result may be a view of them. */
export function packFrame(plain: Buffer): Buffer {
  if (beginsLikeZstd(plain)) return compress(plain);
  if (plain.length > SAMPLED_FROM_BYTES && !seemsCompressible(plain)) return plain;
  const packed = compress(plain);
  return packed.length < plain.length ? packed : plain;
}

function compress(plain: Buffer): Buffer {
  // With room for all of it at once, nothing is put together from pieces.
  return zstdCompressSync(plain, { params: COMPRESSION, chunkSize: packedBytesMax(plain.length) });
}

function seemsCompressible(plain: Buffer): boolean {
  const samples: Buffer[] = [];
  for (let sample = 0; sample < SAMPLES; sample++) {
    const start = Math.floor(((plain.length - SAMPLE_BYTES) * sample) / (SAMPLES - 1));
    samples.push(plain.subarray(start, start + SAMPLE_BYTES));
  }
  return compress(Buffer.concat(samples)).length < SAMPLES * SAMPLE_BYTES * WORTHWHILE_SHARE;
}

/** A frame is not what the table says of it. */
export class BadFrameError extends Error {
  override readonly name = "BadFrameError";
}

/**
 * Unpacks a frame into exactly as many bytes as the table says; a bomb is stopped there. The result may be a view of the
 * packed bytes.
 *
 * @throws BadFrameError
 */
export function unpackFrame(packed: Buffer, plainLength: number): Buffer {
  if (packed.length === plainLength && !beginsLikeZstd(packed)) return packed;
  let plain: Buffer;
  try {
    plain = zstdDecompressSync(packed, {
      maxOutputLength: plainLength,
      chunkSize: Math.max(64, plainLength),
    });
  } catch (error) {
    throw new BadFrameError(`a frame does not unpack into ${plainLength} bytes`, { cause: error });
  }
  if (plain.length !== plainLength)
    throw new BadFrameError(`a frame has ${plain.length} bytes, not ${plainLength}`);
  return plain;
}

function beginsLikeZstd(bytes: Buffer): boolean {
  return bytes.subarray(0, MAGIC.length).equals(MAGIC);
}
