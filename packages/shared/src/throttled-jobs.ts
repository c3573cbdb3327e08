import { tenantKeys } from "./keys.ts";
import type { RedisClient } from "./redis.ts";
import { Script } from "./script.ts";

const queueThrottled = new Script("queue-throttled");

/**
 * The lines in which jobs of `inbound` stand, one a tenant, that wait because their tenant has sent as many messages
 * as it may. Whoever comes while others stand there goes to the end, so that a tenant's messages are accepted in the
 * order in which they were taken from the queue.
 */
export class ThrottledJobs {
  readonly #redis: RedisClient;

  constructor(redis: RedisClient) {
    this.#redis = redis;
  }

  /** The job that is next in a tenant's line; undefined where nobody stands there. */
  async first(tenant: string): Promise<string | undefined> {
    const [jobId] = await this.#redis.zrange(tenantKeys(tenant).throttledJobs, "0", "0");
    return jobId;
  }

  /** Puts a job at the end of the line, unless it stands there; gives how many stand before it. */
  async queue(tenant: string, jobId: string): Promise<number> {
    return Number(await queueThrottled.run(this.#redis, [tenantKeys(tenant).throttledJobs], [jobId]));
  }

  /** Takes a job out of the line. */
  async leave(tenant: string, jobId: string): Promise<void> {
    await this.#redis.zrem(tenantKeys(tenant).throttledJobs, jobId);
  }
}
