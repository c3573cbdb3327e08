// biome-ignore-all lint/style/noRestrictedImports: the spool is of the host alone: no sandbox sees it

import { createHash, randomBytes } from "node:crypto";
import { type FileHandle, mkdir, open, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import type { ContentSource } from "@longshore/session-store";
import { ApiError } from "./api-error.ts";

/** Read from disk at once, in bytes. */
const PART_BYTES = 256 * 1024;
/** A client that sends nothing for so long, in ms, is taken for gone. */
const SILENCE_MS = 60_000;
/** So much of a body that is too large is still read, so that its sender gets to the answer. */
const DISCARDED_MAX_BYTES = 64 * 1024 ** 2;

export interface UploadSpoolOptions {
  /** Bytes of all uploads that are on disk at once. @default 4 GiB */
  readonly budgetBytes?: number;
  /** Made when the first upload comes, where it is not there. */
  readonly directory: string;
}

/** A body that has arrived whole. Its disposal frees the disk. */
export interface SpooledUpload extends AsyncDisposable {
  /** Of its content, in hexadecimal. */
  readonly sha256: string;
  readonly content: ContentSource;
}

/**
 * Keeps bodies of uploads on disk until they are in the object store: that wants their hash before their first byte, and
 * the whole again when a put has to be tried again. The files have no names, so nothing of them outlives the process. All
 * uploads at once share a budget of disk (I11): who comes when it is spent is sent away for a moment.
 */
export class UploadSpool {
  readonly #budgetBytes: number;
  readonly #directory: string;
  #usedBytes = 0;

  constructor({ budgetBytes = 4 * 1024 ** 3, directory }: UploadSpoolOptions) {
    this.#budgetBytes = budgetBytes;
    this.#directory = directory;
  }

  /** The largest body that there can be room for, in bytes. */
  get budgetBytes(): number {
    return this.#budgetBytes;
  }

  /**
   * @param options.limitBytes the longest body that is taken
   * @param options.announcedBytes what its sender says that it has
   * @throws ApiError `BODY_TOO_LARGE`, `BUSY` when the disk is spent, `UPLOAD_TIMEOUT`, `UPLOAD_CUT` when its sender went away
   */
  async receive(
    body: Readable,
    {
      limitBytes,
      announcedBytes,
    }: { readonly limitBytes: number; readonly announcedBytes: number | undefined },
  ): Promise<SpooledUpload> {
    const limit = Math.min(limitBytes, this.#budgetBytes);
    if (announcedBytes !== undefined && announcedBytes > limit) throw tooLarge(limit);
    if (this.#usedBytes + (announcedBytes ?? 0) > this.#budgetBytes) throw busy();
    const handle = await this.#createFile();
    let reserved = 0;
    const dispose = async () => {
      this.#usedBytes -= reserved;
      reserved = 0;
      await handle.close();
    };
    try {
      const hash = createHash("sha256");
      for await (const chunk of chunksOf(body, limit)) {
        if (this.#usedBytes + chunk.length > this.#budgetBytes) throw busy();
        this.#usedBytes += chunk.length;
        reserved += chunk.length;
        hash.update(chunk);
        await writeAll(handle, chunk);
      }
      const sizeBytes = reserved;
      const content = { sizeBytes, open: () => readAll(handle, sizeBytes) };
      return { sha256: hash.digest("hex"), content, [Symbol.asyncDispose]: dispose };
    } catch (error) {
      await dispose();
      throw error;
    }
  }

  async #createFile(): Promise<FileHandle> {
    // Others may pass it on their way to what is their own.
    await mkdir(dirname(this.#directory), { recursive: true, mode: 0o711 });
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const path = join(this.#directory, `longshore-upload-${randomBytes(16).toString("hex")}`);
    const handle = await open(path, "wx+", 0o600);
    await unlink(path);
    return handle;
  }
}

/** The chunks of a body up to its limit, each within the time that a client may be silent. */
async function* chunksOf(body: Readable, limit: number): AsyncGenerator<Buffer> {
  let bytes = 0;
  let silent = false;
  const timer = setTimeout(() => {
    silent = true;
    body.destroy();
  }, SILENCE_MS);
  try {
    // Not ended with the loop: a refusal still has to be sent on the same connection.
    for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      timer.refresh();
      bytes += chunk.length;
      if (bytes <= limit) yield chunk;
      else if (bytes > limit + DISCARDED_MAX_BYTES) break;
    }
  } catch (cause) {
    if (silent) throw new ApiError(408, "UPLOAD_TIMEOUT", "The body did not go on", { cause });
    throw new ApiError(400, "UPLOAD_CUT", "The body broke off", { cause });
  } finally {
    clearTimeout(timer);
  }
  if (bytes > limit) throw tooLarge(limit);
}

async function writeAll(handle: FileHandle, chunk: Buffer): Promise<void> {
  try {
    await handle.writeFile(chunk);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOSPC") throw busy(cause);
    throw cause;
  }
}

async function* readAll(handle: FileHandle, sizeBytes: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < sizeBytes; ) {
    const part = Buffer.allocUnsafe(Math.min(PART_BYTES, sizeBytes - at));
    const { bytesRead } = await handle.read(part, 0, part.length, at);
    if (bytesRead === 0) throw new Error("a spooled upload is shorter than it was");
    at += bytesRead;
    yield part.subarray(0, bytesRead);
  }
}

function tooLarge(limit: number): ApiError {
  return new ApiError(413, "BODY_TOO_LARGE", `The body is larger than ${limit} bytes`);
}

function busy(cause?: unknown): ApiError {
  return new ApiError(503, "BUSY", "Too many large uploads at once", { retryAfterSeconds: 5, cause });
}
