import { hash, randomBytes } from "node:crypto";
import { type Clock, errnoOf } from "@longshore/shared";
import { UntrustedCacheError } from "../errors.ts";
import { CacheDirectory } from "./cache-directory.ts";
import { diskBytes, sweepCache } from "./cache-sweep.ts";
import { CacheUsage } from "./cache-usage.ts";

/**
 * What happened in a chunk cache: `hit` and `miss` of bytes that were wanted, `stored`, `dropped` (there were more to store
 * than could be kept in memory, or no room), `evicted`, `bad` (found to be wrong, and removed), and `failed` with an error:
 * the disk is full, may not be written to; no more is stored for a minute then.
 */
export type CacheEvent = "hit" | "miss" | "stored" | "dropped" | "evicted" | "bad" | "failed";

export interface ChunkCacheOptions {
  /** An absolute path. Made with mode 0700 where it does not exist. Processes of one host and user may share it. */
  readonly directory: string;
  /**
   * The most that it may hold, in bytes. It holds less where the file system would else have less than 5 % free (at most
   * 10 GiB); several processes may exceed it for moments by what each is storing.
   */
  readonly maxBytes: number;
  readonly onEvent?: (event: CacheEvent, bytes: number, error?: unknown) => void;
}

/** Bytes that wait to be stored; what comes on top is not kept. */
const QUEUE_BYTES = 48 * 1024 * 1024;

/** Storing begins when this much waits, or nothing came for a moment: not while a restore wants the processors. */
const BEGIN_BYTES = 32 * 1024 * 1024;
const BEGIN_AFTER_MS = 100;

/** Bytes stored between two looks at how much there is. */
const BATCH_BYTES = 1024 * 1024;

/** How much is left after an eviction. */
const KEPT_SHARE = 7 / 8;

/** What is left free of a file system. */
const RESERVE_SHARE = 1 / 20;
const RESERVE_BYTES_MAX = 10 * 1024 ** 3;

/** A file that is used is marked so at most this often. */
const TOUCH_MS = 60_000;

/** No try to store is made for this long after one failed. */
const PAUSE_MS = 60_000;

/**
 * What a host has fetched or made before: packed frames and tables, by a name that nothing else ever gets. It saves
 * requests and nothing else: whatever becomes of the directory, all goes on without it.
 *
 * Nothing read from it is trusted before it was verified by its reader, who calls `drop` for what was wrong.
 *
 * Storing is `idle`, `waiting` for a restore to be over (until 32 MiB wait or nothing more comes), `storing` one file after
 * the other, or `paused` for a minute after an error; what is to be stored meanwhile is dropped.
 */
export class ChunkCache {
  readonly #directory: CacheDirectory;
  readonly #usage: CacheUsage;
  readonly #maxBytes: number;
  readonly #clock: Clock;
  readonly #onEvent: NonNullable<ChunkCacheOptions["onEvent"]>;
  readonly #queue = new Map<string, Buffer>();
  #queuedBytes = 0;
  #begin: NodeJS.Timeout | undefined;
  #storing: Promise<void> | undefined;
  #pausedUntilMs = Number.NEGATIVE_INFINITY;

  private constructor(directory: CacheDirectory, options: ChunkCacheOptions, clock: Clock) {
    this.#directory = directory;
    this.#usage = new CacheUsage(directory.path);
    this.#maxBytes = options.maxBytes;
    this.#clock = clock;
    this.#onEvent = options.onEvent ?? (() => undefined);
  }

  /** @returns undefined where the directory can't be made, which the listener is told. @throws UntrustedCacheError */
  static open(options: ChunkCacheOptions, clock: Clock): ChunkCache | undefined {
    try {
      return new ChunkCache(new CacheDirectory(options.directory), options, clock);
    } catch (error) {
      if (error instanceof UntrustedCacheError) throw error;
      options.onEvent?.("failed", 0, error);
      return undefined;
    }
  }

  /** The name of a part of an object, or of the whole. @param store the address of the object store */
  static nameOf(store: string, key: string, offset?: number, length?: number): string {
    const part = offset === undefined ? "" : `${offset}+${length}`;
    return hash("sha256", `${store}\0${key}\0${part}`, "hex");
  }

  /** Whether there is something of this name and length. */
  has(name: string, length: number): boolean {
    return this.#queue.has(name) || this.#directory.look(name)?.sizeBytes === length;
  }

  /** Fills a buffer. @returns false where there is nothing of this name and the buffer's length */
  async readInto(name: string, bytes: Buffer): Promise<boolean> {
    const queued = this.#queue.get(name);
    if (queued?.length === bytes.length) {
      queued.copy(bytes);
      return this.#used(name, undefined, bytes.length);
    }
    const file = this.#directory.look(name);
    if (file?.sizeBytes !== bytes.length) return false;
    return (await this.#directory.readInto(name, bytes)) && this.#used(name, file.usedMs, bytes.length);
  }

  /** All of an object; undefined where it is not there. */
  async readWhole(name: string): Promise<Buffer | undefined> {
    const bytes = this.#queue.get(name) ?? (await this.#directory.readWhole(name));
    if (bytes !== undefined) this.#used(name, this.#directory.look(name)?.usedMs, bytes.length);
    return bytes;
  }

  /** Says that something was wanted and had to be fetched. */
  missed(bytes: number): void {
    this.#onEvent("miss", bytes);
  }

  /** Stores something, some time later. @param bytes kept until then; not to be changed */
  put(name: string, bytes: Buffer): void {
    if (this.#queue.has(name)) return;
    const paused = this.#clock.monotonic() < this.#pausedUntilMs;
    if (paused || this.#queuedBytes + bytes.length > QUEUE_BYTES) {
      this.#onEvent("dropped", bytes.length);
      return;
    }
    this.#queue.set(name, bytes);
    this.#queuedBytes += bytes.length;
    if (this.#storing !== undefined) return;
    if (this.#queuedBytes >= BEGIN_BYTES) this.#store();
    else if (this.#begin === undefined) this.#begin = setTimeout(() => this.#store(), BEGIN_AFTER_MS).unref();
    else this.#begin.refresh();
  }

  /** Removes what was found to be wrong. */
  drop(names: readonly string[]): void {
    for (const name of names) {
      this.#unqueue(name);
      this.#directory.remove(name);
    }
    this.#onEvent("bad", 0);
  }

  /** Waits until all is stored that waits to be. */
  async close(): Promise<void> {
    if (this.#queue.size > 0 && this.#storing === undefined) this.#store();
    await this.#storing;
  }

  #used(name: string, usedMs: number | undefined, bytes: number): true {
    const nowMs = this.#clock.now();
    if (usedMs !== undefined && Math.abs(nowMs - usedMs) > TOUCH_MS) void this.#directory.touch(name, nowMs);
    this.#onEvent("hit", bytes);
    return true;
  }

  #store(): void {
    clearTimeout(this.#begin);
    this.#begin = undefined;
    this.#storing ??= this.#storeQueued().finally(() => {
      this.#storing = undefined;
    });
  }

  async #storeQueued(): Promise<void> {
    try {
      while (this.#queue.size > 0) await this.#storeBatch();
    } catch (error) {
      this.#pausedUntilMs = this.#clock.monotonic() + PAUSE_MS;
      this.#onEvent("failed", this.#queuedBytes, error);
      this.#queue.clear();
      this.#queuedBytes = 0;
    }
  }

  async #storeBatch(): Promise<void> {
    const room = await this.#makeRoom(Math.min(this.#queuedBytes, BATCH_BYTES));
    let stored = 0;
    for (const [name, bytes] of this.#queue) {
      if (stored >= BATCH_BYTES) break;
      if (!room) this.#onEvent("dropped", bytes.length);
      // Another process may have been first.
      else if (this.#directory.look(name)?.sizeBytes !== bytes.length) {
        await this.#directory.store(name, bytes);
        stored += diskBytes(bytes.length);
        this.#onEvent("stored", bytes.length);
      }
      this.#unqueue(name);
    }
    if (stored > 0) await this.#usage.add(stored);
  }

  /** Removes what was used longest ago where there is no room. @returns whether there is now */
  async #makeRoom(bytes: number): Promise<boolean> {
    const usage = this.#usage.read();
    if (usage !== undefined && usage + bytes <= this.#limitFor(usage)) return true;
    let limit = 0;
    const swept = await sweepCache(this.#directory.path, this.#clock.now(), (held) => {
      limit = this.#limitFor(held);
      return held + bytes <= limit ? held : Math.floor(limit * KEPT_SHARE) - bytes;
    });
    if (swept.evictedBytes > 0) this.#onEvent("evicted", swept.evictedBytes);
    try {
      await this.#usage.set(swept.bytes, randomBytes(8).toString("hex"));
    } catch (error) {
      // Removed under us: it is made again with the next file.
      if (errnoOf(error) !== "ENOENT") throw error;
    }
    return swept.bytes + bytes <= limit;
  }

  /** How many bytes there may be, where there are so many: not so many that others find the disk full. */
  #limitFor(heldBytes: number): number {
    const space = this.#directory.space();
    if (space === undefined) return this.#maxBytes;
    const reserve = Math.min(space.totalBytes * RESERVE_SHARE, RESERVE_BYTES_MAX);
    return Math.max(0, Math.min(this.#maxBytes, heldBytes + space.freeBytes - reserve));
  }

  #unqueue(name: string): void {
    this.#queuedBytes -= this.#queue.get(name)?.length ?? 0;
    this.#queue.delete(name);
  }
}
