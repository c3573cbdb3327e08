import { pendingKey, pendingShards } from "@longshore/shared";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { openRedisFixture, type RedisFixture, SessionFixture } from "./redis-fixture.ts";

let redis: RedisFixture;
let session: SessionFixture;
beforeAll(async () => {
  redis = await openRedisFixture();
});
afterAll(() => redis[Symbol.asyncDispose]());
beforeEach(() => {
  session = new SessionFixture(redis.client);
});

/** The entry as a sweep reads it. */
async function entry(): Promise<string | undefined> {
  const found = await redis.client.zrange(pendingKey(session.sessionId), "0", "-1", "WITHSCORES");
  return found[found.indexOf(session.sessionId) + 1 || found.length];
}

describe("the pending index (I2)", () => {
  it("has a session from its first message on, in one of its shards", async () => {
    expect(pendingShards()).toContain(pendingKey(session.sessionId));
    const before = Date.now();
    await session.accept("a");
    expect(Number(await entry())).toBeGreaterThanOrEqual(before - 1_000);
  });

  it("has it also where the message was refused: a sweep sees then that the session is empty", async () => {
    await session.accept("a", 1);
    await session.state.forgetPending(session.sessionId, (await entry()) as string);
    await expect(session.accept("b", 1)).rejects.toMatchObject({ code: "MAILBOX_FULL" });
    expect(await entry()).toBeDefined();
  });

  it("forgets a session by the score that a sweep has read", async () => {
    await session.accept("a");
    await session.state.forgetPending(session.sessionId, (await entry()) as string);
    expect(await entry()).toBeUndefined();
  });

  it("does not forget a session that was put in again since", async () => {
    await session.accept("a");
    const seen = (await entry()) as string;
    await redis.client.zadd(pendingKey(session.sessionId), Number(seen) + 1, session.sessionId);
    await session.state.forgetPending(session.sessionId, seen);
    expect(await entry()).toBe(String(Number(seen) + 1));
  });
});

describe("inspecting a session", () => {
  it("tells what a sweep needs", async () => {
    const { seq } = await session.accept("a");
    await session.accept("b");
    expect(await session.state.inspect(session.sessionId)).toEqual({
      leasedBy: undefined,
      waiting: 2,
      oldestSeq: seq,
      undelivered: 0,
      tenant: "default",
      agent: "helper",
      retryAt: 0,
      generation: 0,
    });
    const lease = await session.lease();
    await session.state.publish(session.sessionId, lease, {
      generation: 4,
      replies: [session.reply(4)],
      ends: [session.end("a"), session.end("b")],
    });
    expect(await session.state.inspect(session.sessionId)).toMatchObject({
      leasedBy: "worker-1",
      waiting: 0,
      oldestSeq: undefined,
      undelivered: 1,
      generation: 4,
    });
  });

  it("takes a session that nobody knows for an empty one", async () => {
    expect(await session.state.inspect(session.sessionId)).toMatchObject({ waiting: 0, undelivered: 0 });
  });
});
