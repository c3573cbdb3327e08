import type { Queue } from "bullmq";
import { Gauge, type Registry } from "prom-client";

const STATES = ["waiting", "active", "delayed", "prioritized", "completed", "failed"] as const;
/** How long a scrape waits for Redis, in ms. */
const TIMEOUT_MS = 2_000;

/** BullMQ's own counts, under the name that BullMQ gives them, asked for when they are scraped. */
export function countQueues(registry: Registry, queues: readonly Queue[]): void {
  new Gauge({
    name: "bullmq_job_count",
    help: "Jobs by queue and state",
    labelNames: ["queue", "state"] as const,
    registers: [registry],
    async collect() {
      const counts = await Promise.all(queues.map(countJobs));
      // Old numbers would pass for new ones.
      this.reset();
      for (const [index, queue] of queues.entries()) {
        for (const [state, count] of Object.entries(counts[index] ?? {}))
          this.set({ queue: queue.name, state }, count);
      }
    },
  });
}

/** Undefined where Redis does not answer in time. */
async function countJobs(queue: Queue): Promise<Record<string, number> | undefined> {
  const timeout = new Promise<undefined>((resolve) => {
    setTimeout(() => resolve(undefined), TIMEOUT_MS).unref();
  });
  return await Promise.race([queue.getJobCounts(...STATES).catch(() => undefined), timeout]);
}
