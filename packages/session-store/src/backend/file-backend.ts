// biome-ignore-all lint/style/noRestrictedImports: the object store is of the host alone: no sandbox sees it

import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, link, mkdir, open, readdir, rename, stat, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { errnoOf } from "@longshore/shared";
import {
  AmbiguousPutError,
  BadStoreNameError,
  CorruptObjectError,
  ObjectNotFoundError,
  StoreAccessDeniedError,
  StoreRequestRefusedError,
  StoreUnavailableError,
} from "../errors.ts";
import {
  type Backend,
  type BackendOperation,
  type Content,
  contentSize,
  type GetOptions,
  type ListedObject,
  type Listing,
  type ListOptions,
  type ObjectInfo,
  type PutAnswer,
  type PutOptions,
  type PutOutcome,
  type RequestObserver,
} from "./backend.ts";
import { openContent } from "./open-content.ts";

/** Where objects are written before they get their name. No key begins with a dot. */
const STAGING = ".staging";

const LIST_LIMIT = 1000;

/**
 * Objects as files below a directory of this host, with the guarantees of an S3 server: an object appears whole under
 * its name or not at all (written aside, then linked, which fails where the name exists), and is on the disk before
 * the put is over.
 *
 * Several processes may use one directory at once. A crash leaves at most a file in `.staging`.
 */
export class FileBackend implements Backend {
  readonly url: string;
  readonly #root: string;
  readonly #onRequest: RequestObserver;

  /** @param root an absolute path; made when it does not exist */
  constructor(root: string, options: { readonly onRequest?: RequestObserver | undefined } = {}) {
    this.url = `file://${root}`;
    this.#root = root;
    this.#onRequest = options.onRequest ?? (() => undefined);
  }

  get(key: string, options: GetOptions = {}): Promise<Buffer> {
    return this.#observed("get", key, options.signal, async (count) => {
      const handle = await open(this.#path(key), constants.O_RDONLY);
      try {
        const { size } = await handle.stat();
        const start = options.range?.start ?? 0;
        const end = options.range?.end ?? size;
        if (end > size) throw new CorruptObjectError(key, `has ${size} bytes where ${end} are needed`);
        const bytes = options.into ?? Buffer.allocUnsafeSlow(end - start);
        await readFully(handle, bytes, start, key);
        count.received = bytes.length;
        return bytes;
      } finally {
        await handle.close();
      }
    });
  }

  putIfAbsent(key: string, content: Content, options: PutOptions = {}): Promise<PutAnswer> {
    return this.#observed("put", key, options.signal, async (count) => {
      const path = this.#path(key);
      const staged = join(this.#root, STAGING, randomBytes(16).toString("hex"));
      await this.#write(staged, key, content, options.signal);
      count.sent = contentSize(content);
      // What can't be removed stays in `.staging`, as after a crash; the put took place or not all the same.
      const outcome = await this.#link(staged, path, key).finally(() => unlink(staged).catch(ignore));
      count.exists = outcome === "exists";
      return { outcome, storeTimeMs: Date.now() };
    });
  }

  replace(key: string, content: Content, options: PutOptions = {}): Promise<void> {
    return this.#observed("put", key, options.signal, async (count) => {
      const path = this.#path(key);
      const staged = join(this.#root, STAGING, randomBytes(16).toString("hex"));
      await this.#write(staged, key, content, options.signal);
      count.sent = contentSize(content);
      try {
        await mkdir(dirname(path), { recursive: true });
        await rename(staged, path);
      } catch (error) {
        await unlink(staged);
        throw error;
      }
      await syncDirectory(dirname(path));
    });
  }

  list(prefix: string, options: ListOptions = {}): Promise<Listing> {
    return this.#observed("list", prefix, options.signal, async () => {
      const limit = Math.min(options.limit ?? LIST_LIMIT, LIST_LIMIT);
      const objects: ListedObject[] = [];
      const groups: string[] = [];
      let more = false;
      for await (const found of this.#walk(prefix, options)) {
        if (objects.length + groups.length === limit) {
          more = true;
          break;
        }
        if (found.endsWith("/")) {
          groups.push(found);
          continue;
        }
        const stats = await stat(join(this.#root, found)).catch(absent);
        if (stats !== undefined)
          objects.push({ key: found, sizeBytes: stats.size, modifiedMs: stats.mtimeMs });
      }
      return { objects, groups, more, storeTimeMs: Date.now() };
    });
  }

  async delete(keys: readonly string[], options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    for (const key of keys) {
      await this.#observed("delete", key, options.signal, () => unlink(this.#path(key)).catch(absent));
    }
  }

  head(key: string, options: { readonly signal?: AbortSignal } = {}): Promise<ObjectInfo | undefined> {
    return this.#observed("head", key, options.signal, async () => {
      const stats = await stat(this.#path(key)).catch(absent);
      return stats?.isFile() === true ? { sizeBytes: stats.size, modifiedMs: stats.mtimeMs } : undefined;
    });
  }

  async presignGet(): Promise<undefined> {
    return undefined;
  }

  close(): void {}

  /** Keys are made by this package out of checked names; a key that is not so is a mistake, not an attack to be parried. */
  #path(key: string): string {
    for (const part of key.split("/")) {
      if (part === "" || part.startsWith(".") || part.includes("\0")) throw new BadStoreNameError("key", key);
    }
    return join(this.#root, key);
  }

  async #write(path: string, key: string, content: Content, signal: AbortSignal | undefined): Promise<void> {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
    const handle = await open(path, flags, 0o640).catch(async (error: unknown) => {
      if (errnoOf(error) !== "ENOENT") throw error;
      await mkdir(dirname(path), { recursive: true });
      return await open(path, flags, 0o640);
    });
    try {
      if (Buffer.isBuffer(content)) await handle.writeFile(content);
      else await handle.writeFile(openContent(key, content), signal === undefined ? {} : { signal });
      await handle.datasync();
    } catch (error) {
      await unlink(path);
      throw error;
    } finally {
      await handle.close();
    }
  }

  /** @throws AmbiguousPutError when the object stands, and may be gone after a loss of power */
  async #link(staged: string, path: string, key: string): Promise<PutOutcome> {
    try {
      await link(staged, path).catch(async (error: unknown) => {
        if (errnoOf(error) !== "ENOENT") throw error;
        await makeDurableDirectory(dirname(path));
        await link(staged, path);
      });
    } catch (error) {
      if (errnoOf(error) === "EEXIST") return "exists";
      throw error;
    }
    await syncDirectory(dirname(path)).catch((error: unknown) => {
      throw new AmbiguousPutError(key, error);
    });
    return "created";
  }

  /** Keys (and, when grouped, groups) below a prefix, in the order of their bytes. */
  async *#walk(prefix: string, options: ListOptions): AsyncGenerator<string> {
    const top = prefix.slice(0, prefix.lastIndexOf("/") + 1);
    const after = options.startAfter ?? "";
    const pending = await this.#sortedEntries(top);
    while (pending.length > 0) {
      const entry = pending.pop();
      if (entry === undefined) return;
      if (!entry.startsWith(prefix) && !prefix.startsWith(entry)) continue;
      if (!entry.endsWith("/")) {
        if (entry > after) yield entry;
      } else if (options.grouped === true && entry.startsWith(prefix) && entry.length > prefix.length) {
        if (entry > after && !after.startsWith(entry)) yield entry;
      } else if (entry > after || after.startsWith(entry)) {
        pending.push(...(await this.#sortedEntries(entry)));
      }
    }
  }

  /** Entries of a directory as keys, directories with a trailing slash, largest first. */
  async #sortedEntries(directory: string): Promise<string[]> {
    const entries = await readdir(join(this.#root, directory), { withFileTypes: true }).catch(absent);
    if (entries === undefined) return [];
    return entries
      .filter((entry) => !entry.name.startsWith("."))
      .map((entry) => `${directory}${entry.name}${entry.isDirectory() ? "/" : ""}`)
      .sort((a, b) => (a < b ? 1 : -1));
  }

  async #observed<T>(
    operation: BackendOperation,
    key: string,
    signal: AbortSignal | undefined,
    run: (count: RequestCount) => Promise<T>,
  ): Promise<T> {
    signal?.throwIfAborted();
    const count: RequestCount = { sent: 0, received: 0, exists: false };
    try {
      const result = await run(count);
      this.#onRequest(operation, count.exists ? "exists" : "ok", count.sent, count.received);
      return result;
    } catch (error) {
      signal?.throwIfAborted();
      const errno = errnoOf(error);
      switch (errno) {
        case undefined:
          if (error instanceof AmbiguousPutError) this.#onRequest(operation, "retryable", count.sent, 0);
          throw error;
        case "ENOENT":
          this.#onRequest(operation, "not_found", 0, 0);
          throw new ObjectNotFoundError(key, error);
        case "EACCES":
        case "EPERM":
        case "EROFS":
          this.#onRequest(operation, "denied", 0, 0);
          throw new StoreAccessDeniedError(operation, key, error);
        case "ENAMETOOLONG":
        case "ENOTDIR":
        case "EISDIR":
          this.#onRequest(operation, "refused", 0, 0);
          throw new StoreRequestRefusedError(operation, key, error);
        default:
          this.#onRequest(operation, "retryable", 0, 0);
          throw new StoreUnavailableError(operation, key, error);
      }
    }
  }
}

interface RequestCount {
  sent: number;
  received: number;
  /** A put met an object. */
  exists: boolean;
}

function ignore(): void {}

function absent(error: unknown): undefined {
  if (errnoOf(error) === "ENOENT") return undefined;
  throw error;
}

async function readFully(handle: FileHandle, bytes: Buffer, start: number, key: string): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesRead } = await handle.read(bytes, done, bytes.length - done, start + done);
    if (bytesRead === 0) throw new CorruptObjectError(key, `ends after ${start + done} bytes`);
    done += bytesRead;
  }
}

/** Makes a directory and its parents such that a loss of power does not take them, and what is in them, away. */
async function makeDurableDirectory(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true });
  if (first === undefined) return;
  for (let current = path; ; current = dirname(current)) {
    await syncDirectory(dirname(current));
    if (current === first || current === dirname(current)) return;
  }
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
