import { tenantKeys } from "./keys.ts";
import { StorageFullError } from "./message-errors.ts";
import type { RedisClient } from "./redis.ts";

/** How long what was stored waits to be told, and how old an answer may be that is used again, in ms. */
const STALE_MS = 1_000;

/**
 * What the tenants have in the object store, over all processes: what the last collection found to be needed, and what was
 * put there since. It is a sum in Redis, for a limit that need not be exact to the byte: what is stored around a collection may
 * be counted twice or not at all, a process that is killed takes what it stored in its last second with it, and a Redis that
 * forgot begins at 0; the next collection puts that right.
 */
export class StoredBytes {
  readonly #redis: RedisClient;
  readonly #onError: (error: unknown) => void;
  /** By tenant, as the other one: bounded by the configuration. */
  readonly #untold = new Map<string, number>();
  readonly #known = new Map<string, { readonly bytes: Promise<number>; readonly untilMs: number }>();
  /** As it was answered last, however long ago. */
  readonly #last = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #telling: Promise<void> | undefined;

  /** @param onError told where Redis did not take what was stored; it is told again with the next */
  constructor(redis: RedisClient, onError: (error: unknown) => void) {
    this.#redis = redis;
    this.#onError = onError;
  }

  /** Something was stored. Told to the others within a second, or when `close` is called. */
  add(tenant: string, bytes: number): void {
    this.#untold.set(tenant, (this.#untold.get(tenant) ?? 0) + bytes);
    this.#timer ??= setTimeout(() => void this.#tell(), STALE_MS).unref();
  }

  /** What a tenant has, as of a second ago at most. @throws Redis' own errors */
  async of(tenant: string): Promise<number> {
    const known = this.#known.get(tenant);
    if (known !== undefined && performance.now() < known.untilMs) return await known.bytes;
    const bytes = this.#redis.get(tenantKeys(tenant).storedBytes).then(Number);
    this.#known.set(tenant, { bytes, untilMs: performance.now() + STALE_MS });
    try {
      this.#last.set(tenant, await bytes);
    } catch (error) {
      this.#known.delete(tenant);
      throw error;
    }
    return await bytes;
  }

  /**
   * Where there was room when it was asked last, nobody waits for what is answered now: the next one is told.
   *
   * @throws StorageFullError where a tenant has `limit` bytes or more; Redis' own errors
   */
  async assertRoom(tenant: string, limit: number): Promise<void> {
    const last = this.#last.get(tenant);
    const now = this.of(tenant);
    if (last !== undefined && last < limit) now.catch(() => undefined);
    else if ((await now) >= limit) throw new StorageFullError(limit);
  }

  /** A collection has found what a tenant has. @throws Redis' own errors */
  async set(tenant: string, bytes: number): Promise<void> {
    await this.#redis.set(tenantKeys(tenant).storedBytes, bytes);
    this.#known.delete(tenant);
  }

  /** Tells what is not told yet. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#telling;
    await this.#tell();
  }

  async #tell(): Promise<void> {
    this.#timer = undefined;
    const untold = [...this.#untold];
    this.#untold.clear();
    this.#telling = Promise.all(
      untold.map(async ([tenant, bytes]) => {
        try {
          await this.#redis.incrby(tenantKeys(tenant).storedBytes, bytes);
        } catch (error) {
          this.#onError(error);
          // Whether it was counted is not known; too much is put right as too little is.
          this.#untold.set(tenant, (this.#untold.get(tenant) ?? 0) + bytes);
        }
      }),
    ).then(() => undefined);
    await this.#telling;
  }
}
