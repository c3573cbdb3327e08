import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { keepConsuming, QUEUE_PREFIX } from "@longshore/shared";
import { Queue, Worker } from "bullmq";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { openRedisFixture, type RedisFixture } from "./redis-fixture.ts";

let redis: RedisFixture;
let queue: Queue;
let consumer: Worker;
let done: PromiseWithResolvers<string>;
let ends: unknown[];

beforeAll(async () => {
  redis = await openRedisFixture();
});
afterAll(() => redis[Symbol.asyncDispose]());

beforeEach(() => {
  const shared = { connection: { url: redis.server.url, maxRetriesPerRequest: null }, prefix: QUEUE_PREFIX };
  const name = `kept-${randomUUID()}`;
  queue = new Queue(name, shared);
  done = Promise.withResolvers();
  ends = [];
  consumer = new Worker(name, async ({ name: job }) => done.resolve(job), {
    ...{ ...shared, autorun: false, maxStalledCount: 10 },
    ...{ lockDuration: 500, stalledInterval: 100, drainDelay: 1 },
  });
});
afterEach(async () => {
  await setLimit("0");
  await consumer.close();
  await queue.close();
});

const setLimit = (bytes: string) => redis.client.config("SET", "maxmemory", bytes);

it("looks for what dead workers left again, after an error that ended the search for it", async () => {
  await queue.add("left", {});
  const { connection, prefix = "" } = consumer.opts;
  const dead = new Worker(queue.name, undefined, { connection, prefix, lockDuration: 500 });
  expect(await dead.getNextJob("dead")).toMatchObject({ name: "left" });
  await dead.close(true);
  await setLimit("1");
  keepConsuming(consumer, (error) => ends.push(error));
  await once(consumer, "error");
  await searchEnded(consumer);
  await setLimit("0");
  expect(await done.promise).toBe("left");
});

it("begins again where its loop has ended, until it is closed", async () => {
  const run = consumer.run.bind(consumer);
  let runs = 0;
  // What can end it is not in our hands: the loop of the real consumer, which fails the first time.
  consumer.run = () => (++runs === 1 ? Promise.reject(new Error("ended")) : run());
  keepConsuming(consumer, (error) => ends.push(error));
  await queue.add("waits", {});
  expect(await done.promise).toBe("waits");
  expect(ends).toEqual([new Error("ended")]);
  const closed = once(consumer, "closed");
  await consumer.close();
  await closed;
  expect(runs).toBe(2);
});

/** Until the consumer's search for stalled jobs is over, which only BullMQ itself knows. */
async function searchEnded(worker: Worker): Promise<void> {
  const { stalledCheckerPromise } = worker as unknown as { stalledCheckerPromise: Promise<void> };
  expect(stalledCheckerPromise).toBeInstanceOf(Promise);
  await stalledCheckerPromise;
}
