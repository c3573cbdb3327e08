import { randomUUID } from "node:crypto";
import { once } from "node:events";
import {
  hashId,
  openReplyWakes,
  openTurnWakes,
  QUEUE_PREFIX,
  queueNames,
  type TurnWake,
  type TurnWakes,
} from "@longshore/shared";
import { Worker } from "bullmq";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { openRedisFixture, type RedisFixture } from "./redis-fixture.ts";

let redis: RedisFixture;
let wakes: TurnWakes;
let worker: Worker | undefined;
let sessionId: string;

beforeAll(async () => {
  redis = await openRedisFixture();
});
afterAll(() => redis[Symbol.asyncDispose]());
beforeEach(() => {
  wakes = openTurnWakes({ url: redis.server.url });
  sessionId = hashId(randomUUID());
});
afterEach(async () => {
  await worker?.close(true);
  worker = undefined;
  await wakes.queue.obliterate({ force: true });
  await wakes.close();
});

const waiting = () => wakes.queue.getJobCountByTypes("waiting", "prioritized", "delayed");
const active = () => wakes.queue.getActiveCount();

/** A worker that holds each job until `release`. */
function holdJobs(): { readonly taken: () => Promise<unknown>; readonly release: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  worker = new Worker(queueNames.turns, () => promise, {
    connection: { url: redis.server.url, maxRetriesPerRequest: null },
    prefix: QUEUE_PREFIX,
    concurrency: 4,
  });
  const first = once(worker, "active");
  return { taken: () => first, release: resolve };
}

describe("a queue of wakes", () => {
  it("holds one job a session, however often it is woken", async () => {
    for (let count = 0; count < 5; count++) await wakes.wake({ sessionId });
    await wakes.wake({ sessionId: hashId("other") });
    expect(await waiting()).toBe(2);
  });

  it("keeps a wake that comes while the session's job is active, for after it", async () => {
    const held = holdJobs();
    await wakes.wake({ sessionId });
    await held.taken();
    await wakes.wake({ sessionId });
    await wakes.wake({ sessionId });
    expect([await active(), await waiting()]).toEqual([1, 0]);
    const completed = once(worker as Worker, "completed").then(() => once(worker as Worker, "completed"));
    held.release();
    await completed;
    expect([await active(), await waiting()]).toEqual([0, 0]);
  });

  it("leaves no job behind that is done", async () => {
    const held = holdJobs();
    const completed = once(worker as Worker, "completed");
    await wakes.wake({ sessionId });
    held.release();
    await completed;
    expect(await wakes.queue.getJobCountByTypes("completed", "failed")).toBe(0);
  });
});

describe("ensuring a wake", () => {
  it("adds nothing where a job waits, is delayed or is active", async () => {
    await wakes.wake({ sessionId });
    expect(await wakes.ensure({ sessionId })).toBe(false);
    const held = holdJobs();
    await held.taken();
    expect(await wakes.ensure({ sessionId })).toBe(false);
    held.release();
  });

  it.each<[string, () => Promise<unknown>]>([
    ["there never was a job", async () => undefined],
    ["its job was removed", async () => (await theJob()).remove()],
    ["the queue was drained", () => wakes.queue.drain(true)],
    ["the queue was cleaned", () => wakes.queue.clean(0, 1_000, "prioritized")],
    ["the queue was obliterated", () => wakes.queue.obliterate({ force: true })],
    ["all keys but the deduplication's were deleted", deleteQueueKeys],
  ])("brings the session back where %s", async (what, lose) => {
    if (what !== "there never was a job") await wakes.wake({ sessionId });
    await lose();
    expect(await wakes.ensure({ sessionId })).toBe(true);
    const held = holdJobs();
    const [job] = (await held.taken()) as [{ data: TurnWake }];
    expect(job.data).toEqual({ sessionId });
    held.release();
  });

  it("leaves alone the job that took over while it looked at the one before", async () => {
    const held = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let taken = 0;
    // A job is said to be active a moment before it is processed: what it waits for is there before.
    worker = new Worker(
      queueNames.turns,
      async () => {
        await held[taken++]?.promise;
      },
      {
        connection: { url: redis.server.url, maxRetriesPerRequest: null },
        prefix: QUEUE_PREFIX,
        concurrency: 4,
      },
    );
    const isActive = once(worker, "active");
    await wakes.wake({ sessionId });
    await isActive;
    await wakes.wake({ sessionId });
    const { queue } = wakes;
    const look = queue.getJobState.bind(queue);
    const second = once(worker, "active") as Promise<[{ id: string }]>;
    queue.getJobState = async (jobId) => {
      held[0]?.resolve();
      await second;
      return await look(jobId);
    };
    await wakes.ensure({ sessionId });
    expect(await queue.getDeduplicationJobId(sessionId)).toBe((await second)[0].id);
    expect([await active(), await waiting()]).toEqual([1, 0]);
    held[1]?.resolve();
  });

  /** What is left then is a deduplication key without a job. */
  async function deleteQueueKeys() {
    const keys = await redis.client.keys(`${QUEUE_PREFIX}:${queueNames.turns}:*`);
    const left = keys.filter((key) => key.includes(":de:"));
    expect(left).toHaveLength(1);
    await redis.client.del(...keys.filter((key) => !left.includes(key)));
  }

  async function theJob() {
    const [job] = await wakes.queue.getJobs(["waiting", "prioritized", "delayed"]);
    if (job === undefined) throw new Error("no job waits");
    return job;
  }
});

describe("wakes of replies", () => {
  it("are one a conversation and thread", async () => {
    const replies = openReplyWakes({ url: redis.server.url });
    try {
      const to = { sessionId, channel: "http", conversation: "a:b" };
      await replies.wake(to);
      await replies.wake(to);
      await replies.wake({ ...to, thread: "t" });
      await replies.wake({ ...to, conversation: "a" });
      expect(await replies.queue.getWaitingCount()).toBe(3);
    } finally {
      await replies.queue.obliterate({ force: true });
      await replies.close();
    }
  });
});
