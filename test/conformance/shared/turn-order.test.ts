import { randomUUID } from "node:crypto";
import {
  fleetKeys,
  hashId,
  LAST_PRIORITY,
  openTurnWakes,
  QUEUE_PREFIX,
  queueNames,
  TurnOrder,
  type TurnWake,
  type TurnWakes,
} from "@longshore/shared";
import { DelayedError, type Job, Worker } from "bullmq";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { openRedisFixture, type RedisFixture } from "./redis-fixture.ts";

let redis: RedisFixture;
/** Two dispatchers' queues. */
let wakes: [TurnWakes, TurnWakes];
let order: TurnOrder;
let workers: Worker[];

beforeAll(async () => {
  redis = await openRedisFixture();
});
afterAll(() => redis[Symbol.asyncDispose]());
beforeEach(async () => {
  await redis.client.del(fleetKeys.turnOrder);
  const open = () => openTurnWakes({ url: redis.server.url }, new TurnOrder(redis.client));
  wakes = [open(), open()];
  order = new TurnOrder(redis.client);
  workers = [];
});
afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.close(true)));
  await wakes[0].queue.obliterate({ force: true });
  await Promise.all(wakes.map((queue) => queue.close()));
});

const session = () => hashId(randomUUID());
const waiting = () => wakes[0].queue.getJobs(["prioritized"], 0, -1, true) as Promise<Job<TurnWake>[]>;

/** Wakes so many sessions of a tenant, over both dispatchers. */
async function wakeSessions(tenant: string, count: number): Promise<void> {
  await Promise.all(
    Array.from({ length: count }, (_, index) =>
      (wakes[index % 2] as TurnWakes).wake({ sessionId: session(), tenant }),
    ),
  );
}

/** Tenants in the order in which two workers start their turns, until `count` have started. */
async function starts(count: number, concurrency = 2): Promise<string[]> {
  const started: string[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const take = async ({ data }: Job<TurnWake>) => {
    // What is taken while the workers end counts for the order, as any turn does.
    await new TurnOrder(redis.client).charge(data.tenant as string, data.tag);
    if (started.length === count) return;
    started.push(data.tenant as string);
    if (started.length === count) resolve();
  };
  for (let index = 0; index < 2; index++)
    workers.push(
      new Worker(queueNames.turns, take, {
        connection: { url: redis.server.url, maxRetriesPerRequest: null },
        prefix: QUEUE_PREFIX,
        concurrency,
      }),
    );
  await promise;
  await Promise.all(workers.splice(0).map((worker) => worker.close()));
  return started;
}

describe("the order of turns", () => {
  it("lets a tenant's one session pass a thousand of another's", async () => {
    await wakeSessions("many", 1_000);
    await starts(20);
    await wakeSessions("one", 1);
    // What the workers hold at once, and no more, may be before it.
    expect((await starts(20)).indexOf("one")).toBeLessThanOrEqual(4);
  });

  it("gives tenants that all wait the same share, whoever has more", async () => {
    await wakeSessions("many", 1_000);
    await wakeSessions("some", 100);
    await wakeSessions("few", 50);
    const started = await starts(120);
    for (const tenant of ["many", "some", "few"]) {
      const share = started.filter((of) => of === tenant).length;
      expect(Math.abs(share - 40), `${tenant}: ${share}`).toBeLessThanOrEqual(4);
    }
  });

  it("gives no credit for the time in which a tenant had nothing to do", async () => {
    await wakeSessions("busy", 200);
    await starts(100);
    await wakeSessions("idle", 50);
    const started = await starts(40);
    expect(started.filter((tenant) => tenant === "busy").length).toBeGreaterThanOrEqual(16);
  });

  it("charges a waiting turn once, however often its session is woken", async () => {
    const sessionId = session();
    for (let count = 0; count < 50; count++) await wakes[0].wake({ sessionId, tenant: "acme" });
    await wakes[0].wake({ sessionId: session(), tenant: "acme" });
    expect((await waiting()).map(({ data }) => data.tag)).toEqual([0, 1]);
  });

  it("charges turns that live activations serve", async () => {
    for (let count = 0; count < 10; count++) await order.charge("lively", undefined);
    await wakes[0].wake({ sessionId: session(), tenant: "lively" });
    await wakes[0].wake({ sessionId: session(), tenant: "other" });
    expect((await waiting()).map(({ data }) => data.tenant)).toEqual(["other", "lively"]);
  });

  it("gives a job that has had its turn a new place, also while it is delayed", async () => {
    await wakeSessions("failing", 1);
    const held = Promise.withResolvers<void>();
    workers.push(
      new Worker(
        queueNames.turns,
        async (job: Job<TurnWake>, token) => {
          await order.charge("failing", job.data.tag);
          await order.charge("other", 7);
          await wakes[0].replace(job);
          await job.moveToDelayed(Date.now() + 3_600_000, token);
          held.resolve();
          throw new DelayedError();
        },
        { connection: { url: redis.server.url, maxRetriesPerRequest: null }, prefix: QUEUE_PREFIX },
      ),
    );
    await held.promise;
    const [job] = (await wakes[0].queue.getJobs(["delayed"])) as Job<TurnWake>[];
    expect(job).toMatchObject({ data: { tag: 7 }, priority: 8 });
  });
});

describe("a wake without a place in the order", () => {
  it("is added last", async () => {
    await redis.client.set(fleetKeys.turnOrder, "no hash");
    await wakes[0].wake({ sessionId: session(), tenant: "acme" });
    await redis.client.del(fleetKeys.turnOrder);
    await wakes[0].wake({ sessionId: session(), tenant: "other" });
    await wakes[0].wake({ sessionId: session() });
    expect((await waiting()).map(({ data, priority }) => [data.tenant, priority])).toEqual([
      ["other", 1],
      ["acme", LAST_PRIORITY],
      [undefined, LAST_PRIORITY],
    ]);
  });

  it("is added last where its tag is beyond BullMQ's limit", async () => {
    await redis.client.hset(fleetKeys.turnOrder, "next:acme", 2 ** 40);
    await wakes[0].wake({ sessionId: session(), tenant: "acme" });
    expect((await waiting())[0]).toMatchObject({ priority: LAST_PRIORITY, data: { tag: 2 ** 40 } });
  });
});

describe("rebasing", () => {
  it("gives waiting and delayed jobs the priorities that new ones get, and forgets who owes nothing", async () => {
    await wakeSessions("acme", 1_200);
    await wakes[0].wake({ sessionId: session(), tenant: "other" });
    await order.charge("acme", 1_000);
    await order.charge("nobody", undefined);
    await redis.client.hset(fleetKeys.turnOrder, "next:nobody", 3);
    expect(await wakes[1].rebase(1_000)).toBe(0);
    expect(await wakes[1].rebase(999)).toBe(1_201);
    const jobs = await waiting();
    for (const { data, priority } of jobs) expect(priority).toBe(Math.max((data.tag ?? 0) - 1_000, 0) + 1);
    expect(jobs).toHaveLength(1_201);
    expect(await order.reserve("new")).toEqual({ tag: 1_000, priority: 1 });
    expect(await redis.client.hexists(fleetKeys.turnOrder, "next:nobody")).toBe(0);
    // Jobs added under the old base just now are found by the next looks.
    expect(await wakes[1].rebase(999)).toBe(1_201);
  });
});
