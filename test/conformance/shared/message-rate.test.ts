import { randomUUID } from "node:crypto";
import { MessageRate, RateLimitedError, tenantKeys } from "@longshore/shared";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { openRedisFixture, type RedisFixture } from "./redis-fixture.ts";

let redis: RedisFixture;
/** Two dispatchers'. */
let rates: [MessageRate, MessageRate];
let tenant: string;

beforeAll(async () => {
  redis = await openRedisFixture();
});
afterAll(() => redis[Symbol.asyncDispose]());
beforeEach(() => {
  rates = [new MessageRate(redis.client), new MessageRate(redis.client)];
  tenant = randomUUID();
});

/** Counts so many at once, over both; gives how many were admitted. */
async function admitted(messages: number, limit: number): Promise<number> {
  const all = Array.from({ length: messages }, (_, index) =>
    (rates[index % 2] as MessageRate).count(tenant, limit),
  );
  const outcomes = await Promise.allSettled(all);
  for (const outcome of outcomes)
    if (outcome.status === "rejected") expect(outcome.reason).toBeInstanceOf(RateLimitedError);
  return outcomes.filter(({ status }) => status === "fulfilled").length;
}

/** Moves what was counted so many seconds into the past. */
async function age(seconds: number): Promise<void> {
  const key = tenantKeys(tenant).messageRate;
  const counts = await redis.client.hgetall(key);
  await redis.client.del(key);
  for (const [field, value] of Object.entries(counts)) {
    if (field === "total") await redis.client.hset(key, field, value);
    else if (field === "from") await redis.client.hset(key, field, Number(value) - seconds);
    else await redis.client.hset(key, Number(field) - seconds, value);
  }
}

describe("the rate of messages", () => {
  it("admits the limit and no more, however many come at once", async () => {
    expect(await admitted(250, 100)).toBe(100);
    expect(await admitted(10, 100)).toBe(0);
  });

  it("is a tenant's own", async () => {
    await admitted(10, 10);
    tenant = randomUUID();
    expect(await admitted(10, 10)).toBe(10);
  });

  it("slides: after a minute there is room for as many as were counted then", async () => {
    expect(await admitted(30, 50)).toBe(30);
    await age(30);
    expect(await admitted(30, 50)).toBe(20);
    // A second may pass by itself meanwhile.
    await age(28);
    expect(await admitted(30, 50)).toBe(0);
    await age(3);
    expect(await admitted(50, 50)).toBe(30);
  });

  it("says how long it takes until there is room", async () => {
    await admitted(5, 5);
    await age(20);
    const error = await rates[0].count(tenant, 5).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "RATE_LIMITED", limit: 5, retryable: true });
    // By Redis' clock: a second or two may have begun since.
    const { retryInMs } = error as RateLimitedError;
    expect(retryInMs).toBeGreaterThan(30_000);
    expect(retryInMs).toBeLessThanOrEqual(40_000);
    expect(await rates[0].roomIn(tenant, 6)).toBe(0);
  });

  it("takes back what was no message", async () => {
    await admitted(5, 5);
    await rates[1].giveBack(tenant, 5);
    expect(await admitted(5, 5)).toBe(1);
  });

  it("is forgotten after a while, also by a clock that goes back", async () => {
    await admitted(5, 5);
    await age(500);
    expect(await admitted(10, 5)).toBe(5);
    await age(-3_600);
    expect(await admitted(10, 5)).toBe(5);
    expect(await redis.client.pttl(tenantKeys(tenant).messageRate)).toBeGreaterThan(0);
  });
});
