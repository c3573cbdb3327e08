import { GatheredCalls } from "./gathered-calls.ts";
import { tenantKeys } from "./keys.ts";
import { RateLimitedError } from "./message-errors.ts";
import type { RedisClient } from "./redis.ts";
import { Script } from "./script.ts";

const countMessages = new Script("count-messages");

/** Messages of one call to Redis. */
const GATHERED = 1_000;

interface Counted {
  readonly admitted: boolean;
  readonly retryInMs: number;
}

interface Counting {
  readonly messages: 1 | -1;
  readonly limit: number;
}

/** Counts the messages of tenants against their limit for a minute, over all dispatchers. */
export class MessageRate {
  readonly #redis: RedisClient;
  /** By tenant: bounded by the configuration. */
  readonly #calls = new Map<string, GatheredCalls<Counting, Counted>>();

  constructor(redis: RedisClient) {
    this.#redis = redis;
  }

  /**
   * Counts one message.
   *
   * @param limit messages in any 60 seconds
   * @throws RateLimitedError with the wait until there is room; Redis' own errors
   */
  async count(tenant: string, limit: number): Promise<void> {
    const { admitted, retryInMs } = await this.#callsOf(tenant).add({ messages: 1, limit });
    if (!admitted) throw new RateLimitedError(limit, retryInMs);
  }

  /** Takes one message back that was counted, and turned out to be none. */
  async giveBack(tenant: string, limit: number): Promise<void> {
    await this.#callsOf(tenant).add({ messages: -1, limit });
  }

  /** After how many ms there is room for a message; 0 where there is. */
  async roomIn(tenant: string, limit: number): Promise<number> {
    const [, roomInMs] = await this.#run(tenant, 0, limit);
    return roomInMs;
  }

  #callsOf(tenant: string): GatheredCalls<Counting, Counted> {
    const known = this.#calls.get(tenant);
    if (known !== undefined) return known;
    const calls = new GatheredCalls((items: readonly Counting[]) => this.#count(tenant, items), GATHERED);
    this.#calls.set(tenant, calls);
    return calls;
  }

  async #count(tenant: string, items: readonly Counting[]): Promise<Counted[]> {
    const { limit } = items.at(-1) as Counting;
    const back = items.filter(({ messages }) => messages === -1).length;
    if (back > 0) await this.#run(tenant, -back, limit);
    const wanted = items.length - back;
    const [admitted, retryInMs] = wanted > 0 ? await this.#run(tenant, wanted, limit) : [0, 0];
    let left = admitted;
    return items.map(({ messages }) => ({ admitted: messages === -1 || left-- > 0, retryInMs }));
  }

  async #run(tenant: string, messages: number, limit: number): Promise<readonly [number, number]> {
    const answer = await countMessages.run(this.#redis, [tenantKeys(tenant).messageRate], [messages, limit]);
    return answer as [number, number];
  }
}
