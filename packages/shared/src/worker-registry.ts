import type { Cluster, Redis } from "ioredis";
import { z } from "zod";
import { fleetKeys, workerReportKey } from "./keys.ts";

/** How long a worker is known after it was heard of last, in ms. */
export const WORKER_REPORT_TTL_MS = 15_000;
/** Activations that a report names. */
export const WORKER_ACTIVATIONS_REPORTED = 1_000;
/** So old an entry of a worker that nobody looked for is forgotten, in ms. */
const FORGOTTEN_AFTER_MS = 24 * 3_600_000;

const workerReportSchema = z.object({
  /** New for each start. */
  workerId: z.string(),
  host: z.string(),
  /** When it was started, and when it said this. */
  startedAt: z.iso.datetime(),
  reportedAt: z.iso.datetime(),
  /** Activations that it may have at once. */
  places: z.int(),
  /** It takes no new work and ends. */
  draining: z.boolean(),
  activations: z.array(z.object({ sessionId: z.string(), state: z.string() })),
});
/** What a worker says of itself. */
export type WorkerReport = z.output<typeof workerReportSchema>;

/** The workers of the fleet, as they announce themselves: for people to look at, nothing rests on it. */
export class WorkerRegistry {
  readonly #redis: Redis | Cluster;

  constructor(redis: Redis | Cluster) {
    this.#redis = redis;
  }

  /** Says that a worker lives, for `WORKER_REPORT_TTL_MS`. */
  async announce(report: WorkerReport): Promise<void> {
    const { workerId, reportedAt } = report;
    const nowMs = Date.parse(reportedAt);
    const results = await this.#redis
      .pipeline()
      .set(workerReportKey(workerId), JSON.stringify(report), "PX", WORKER_REPORT_TTL_MS)
      .zadd(fleetKeys.workers, nowMs, workerId)
      .zremrangebyscore(fleetKeys.workers, "-inf", nowMs - FORGOTTEN_AFTER_MS)
      .exec();
    for (const [error] of results ?? []) if (error) throw error;
  }

  /** Says that a worker is gone. */
  async withdraw(workerId: string): Promise<void> {
    await this.#redis.del(workerReportKey(workerId));
    await this.#redis.zrem(fleetKeys.workers, workerId);
  }

  /** The workers that were heard of lately, by id. */
  async list(): Promise<WorkerReport[]> {
    const ids = await this.#redis.zrange(fleetKeys.workers, "0", "-1");
    if (ids.length === 0) return [];
    const texts = await this.#redis.mget(...ids.map(workerReportKey));
    return texts
      .filter((text) => text !== null)
      .map((text) => workerReportSchema.parse(JSON.parse(text)))
      .sort((a, b) => (a.workerId < b.workerId ? -1 : 1));
  }
}
