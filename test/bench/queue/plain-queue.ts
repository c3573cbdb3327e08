import { Queue, Worker } from "bullmq";
import { atOnce } from "./at-once.ts";
import { failBench } from "./fail-bench.ts";

/** Jobs of a queue of BullMQ as its own documentation has them; each counts a batch of them. */
export interface PlainRates {
  /** Jobs a second that one process added. */
  readonly add: number;
  /** Jobs a second that one process took, did nothing for, and completed. */
  readonly process: number;
}

/** What is measured here, as one can type it. */
export const plainCommands = {
  add: 'queue.add("job", { sessionId }, { removeOnComplete: true }) of bullmq',
  process: 'new Worker("plain", async () => undefined, { concurrency }) of bullmq',
} as const;

/**
 * Plain BullMQ, the peer: adds jobs, then processes them by a processor that does nothing.
 *
 * @param jobs of the batch
 * @param concurrency calls of `add` at once, and of the worker
 */
export async function runPlainQueue(
  url: string,
  { jobs, concurrency }: { readonly jobs: number; readonly concurrency: number },
): Promise<PlainRates> {
  await using stack = new AsyncDisposableStack();
  // Connections as BullMQ makes them: ours gather what is written, which makes BullMQ itself faster.
  const connection = { url };
  const queue = new Queue("plain", { connection, prefix: "{plain}" });
  stack.defer(() => queue.close());
  await queue.waitUntilReady();

  const addedIn = await atOnce(jobs, concurrency, async (index) => {
    await queue.add("job", { sessionId: `s${index}` }, { removeOnComplete: true });
  });

  const done = Promise.withResolvers<void>();
  let left = jobs;
  const worker = new Worker(
    "plain",
    async () => {
      left -= 1;
    },
    { connection, prefix: "{plain}", concurrency, autorun: false },
  );
  stack.defer(() => worker.close());
  worker.on("completed", () => {
    if (left === 0) done.resolve();
  });
  await worker.waitUntilReady();
  const start = performance.now();
  void worker.run().catch(failBench);
  await done.promise;
  return { add: (jobs / addedIn) * 1_000, process: (jobs / (performance.now() - start)) * 1_000 };
}
