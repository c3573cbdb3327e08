import { once } from "node:events";
import { type Lease, sessionKeys } from "@longshore/shared";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { LeaseKeeper } from "../../../apps/worker/src/lease-keeper.ts";
import { openRedisFixture, type RedisFixture, SessionFixture } from "../shared/redis-fixture.ts";

let redis: RedisFixture;
let session: SessionFixture;
let keeper: LeaseKeeper;
let nowMs: number;

beforeAll(async () => {
  redis = await openRedisFixture();
});
afterAll(() => redis[Symbol.asyncDispose]());
beforeEach(() => {
  session = new SessionFixture(redis.client);
  nowMs = 0;
});
afterEach(() => keeper.stop());

const key = () => sessionKeys(session.sessionId).lease;

function keep(lease: Lease, ttlMs: number): LeaseKeeper {
  const clock = { now: () => nowMs, monotonic: () => nowMs };
  const { state, sessionId } = session;
  return new LeaseKeeper({ state, sessionId, lease, ttlMs, takenAt: nowMs, clock });
}

describe("a lease that is kept (I5)", () => {
  it("is prolonged", async () => {
    keeper = keep(await session.lease("n", 60_000), 600);
    await redis.client.persist(key());
    await expect.poll(() => redis.client.pttl(key())).toBeGreaterThan(0);
    keeper.assertHeld();
  });

  it("is lost when a renewal is refused, for good", async () => {
    keeper = keep(await session.lease("n", 60_000), 600);
    const lost = once(keeper.signal, "abort");
    await redis.client.del(key());
    await lost;
    expect(keeper.signal.reason).toMatchObject({
      code: "FENCED",
      message: expect.stringContaining("refused"),
    });
    expect(() => keeper.assertHeld()).toThrow(expect.objectContaining({ code: "FENCED" }));
  });

  it("was lost by the clock where a process that had not run reads first that it is refused", async () => {
    keeper = keep(await session.lease("n", 60_000), 3_000);
    const lost = once(keeper.signal, "abort");
    await redis.client.del(key());
    nowMs += 2_400;
    await lost;
    expect(keeper.signal.reason).toMatchObject({
      code: "FENCED",
      message: expect.stringContaining("expired"),
    });
  });

  it("is lost by the clock alone, before any timer fires and whoever holds it now", async () => {
    keeper = keep(await session.lease("n", 60_000), 60_000);
    nowMs += 47_999;
    keeper.assertHeld();
    nowMs += 1;
    expect(() => keeper.assertHeld()).toThrow(expect.objectContaining({ code: "FENCED" }));
    nowMs = 0;
    expect(() => keeper.assertHeld()).toThrow(expect.objectContaining({ code: "FENCED" }));
  });

  it("goes on under a raised epoch", async () => {
    keeper = keep(await session.lease("n", 60_000), 300);
    await keeper.raiseEpoch(41);
    await redis.client.persist(key());
    await expect.poll(() => redis.client.pttl(key())).toBeGreaterThan(0);
    expect(keeper.lease).toEqual({ nonce: "n", epoch: 41 });
    keeper.assertHeld();
  });

  it("is renewed no more after it was stopped, and then not lost either", async () => {
    keeper = keep(await session.lease("n", 60_000), 300);
    keeper.stop();
    await redis.client.del(key());
    expect(keeper.signal.aborted).toBe(false);
  });
});
