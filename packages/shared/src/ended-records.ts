import { fleetKeys, messageKey } from "./keys.ts";
import type { RedisClient } from "./redis.ts";
import { Script } from "./script.ts";

const scripts = { pop: new Script("pop-ended"), forget: new Script("forget-record") };

/** Records that are removed together. */
const BATCH = 500;
/** Batches of one call at most: what is more waits for the next. */
const BATCHES_MAX = 200;

/**
 * Which messages have ended, over all sessions, the oldest first: what bounds how many of their records there are. A
 * convenience: the record of a message that was not listed goes when its time to live is over.
 */
export class EndedRecords {
  readonly #redis: RedisClient;
  readonly #ttlMs: number;

  /** @param ttlMs how long the record of an ended message lives */
  constructor(redis: RedisClient, ttlMs: number) {
    this.#redis = redis;
    this.#ttlMs = ttlMs;
  }

  async add(messageIds: readonly string[]): Promise<void> {
    if (messageIds.length === 0) return;
    await Promise.all([
      this.#redis.rpush(fleetKeys.ended, ...messageIds),
      this.#redis.pexpire(fleetKeys.ended, this.#ttlMs),
    ]);
  }

  /**
   * Removes the oldest records beyond `count`, not those of messages that were accepted anew since; gives how many. At most
   * 100,000 in one call.
   */
  async trim(count: number): Promise<number> {
    let removed = 0;
    for (let batch = 0; batch < BATCHES_MAX; batch++) {
      const ids = (await scripts.pop.run(this.#redis, [fleetKeys.ended], [count, BATCH])) as string[];
      if (ids.length === 0) break;
      const results = await Promise.all(
        ids.map((id) => scripts.forget.run(this.#redis, [messageKey(id)], [])),
      );
      removed += results.filter((result) => result === 1).length;
    }
    return removed;
  }
}
