import { createHash } from "node:crypto";
import type { Backend, ByteRange } from "./backend/backend.ts";
import { CorruptObjectError, ObjectNotFoundError } from "./errors.ts";

/** Bytes of a plain object that are read with one request. */
const PART_BYTES = 4 * 1024 * 1024;

/** An object that is one file: an artifact, an accepted attachment. */
export interface StoredObject {
  /** Of the whole object. */
  readonly sizeBytes: number;
  /** The content, or the part that was asked for, with at most a few MiB in memory. */
  stream(): AsyncGenerator<Buffer>;
}

/**
 * Opens a plain object for reading, in ranges: each is retried for itself, so a broken connection does not break the
 * stream.
 *
 * @param options.sha256 what the whole content must hash to; checked at its end, where `CorruptObjectError` is thrown
 * @throws ObjectNotFoundError
 */
export async function openObject(
  backend: Backend,
  key: string,
  options: {
    readonly range?: ByteRange;
    readonly sha256?: string;
    readonly signal?: AbortSignal | undefined;
  } = {},
): Promise<StoredObject> {
  const { signal, sha256 } = options;
  const info = await backend.head(key, signal === undefined ? {} : { signal });
  if (info === undefined) throw new ObjectNotFoundError(key);
  const start = Math.min(options.range?.start ?? 0, info.sizeBytes);
  const end = Math.min(options.range?.end ?? info.sizeBytes, info.sizeBytes);
  return {
    sizeBytes: info.sizeBytes,
    async *stream() {
      const hash = sha256 === undefined ? undefined : createHash("sha256");
      for (let at = start; at < end; at += PART_BYTES) {
        const part = await backend.get(key, {
          range: { start: at, end: Math.min(end, at + PART_BYTES) },
          signal,
        });
        hash?.update(part);
        // The last part is given only once the whole is known to be right.
        if (at + PART_BYTES >= end && hash !== undefined && hash.digest("hex") !== sha256) {
          throw new CorruptObjectError(key, "wrong checksum");
        }
        yield part;
      }
    },
  };
}
