import type { StoredBytes } from "@longshore/shared";
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
      const counts = await Promise.all(queues.map((queue) => inTime(queue.getJobCounts(...STATES))));
      // Old numbers would pass for new ones.
      this.reset();
      for (const [index, queue] of queues.entries()) {
        for (const [state, count] of Object.entries(counts[index] ?? {}))
          this.set({ queue: queue.name, state }, count);
      }
    },
  });
}

/** What tenants have in the object store, asked for when it is scraped. */
export function countStored(
  registry: Registry,
  stored: Pick<StoredBytes, "of">,
  tenants: () => readonly string[],
): void {
  new Gauge({
    name: "longshore_stored_bytes",
    help: "What a tenant's sessions and volumes take in the object store: what the last collection kept, and what came since",
    labelNames: ["tenant"] as const,
    registers: [registry],
    async collect() {
      const names = tenants();
      const sizes = await Promise.all(names.map((tenant) => inTime(stored.of(tenant))));
      this.reset();
      for (const [index, tenant] of names.entries()) {
        const bytes = sizes[index];
        if (bytes !== undefined) this.set({ tenant }, bytes);
      }
    },
  });
}

/** Undefined where Redis does not answer in time. */
async function inTime<T>(answer: Promise<T>): Promise<T | undefined> {
  const timeout = new Promise<undefined>((resolve) => {
    setTimeout(() => resolve(undefined), TIMEOUT_MS).unref();
  });
  return await Promise.race([answer.catch(() => undefined), timeout]);
}
