import { randomUUID } from "node:crypto";
import { type Lease, sessionKeys } from "@longshore/shared";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { openRedisFixture, type RedisFixture, SessionFixture } from "./redis-fixture.ts";

let redis: RedisFixture;
let session: SessionFixture;
beforeAll(async () => {
  redis = await openRedisFixture();
});
afterAll(() => redis[Symbol.asyncDispose]());
beforeEach(async () => {
  session = new SessionFixture(redis.client);
  await session.accept("a");
});

const id = (senderId: string) => session.message(senderId).id;
/** Takes the lease from whoever has it, as after a worker's death. */
async function succeed(): Promise<Lease> {
  await redis.client.del(sessionKeys(session.sessionId).lease);
  return await session.lease();
}
const start = (lease: Lease, alone: boolean) =>
  session.state.startTurn(session.sessionId, lease, [id("a")], `turn of ${lease.nonce}`, alone);
const count = async (lease: Lease) =>
  (await session.state.countDeaths(session.sessionId, lease, [id("a")]))[0];

describe("a worker's death before it comes to the turn", () => {
  /** Takes the lease from whoever has it, and says what is known of those who had it before. */
  const open = async (isAlone = false) => {
    await redis.client.del(sessionKeys(session.sessionId).lease);
    const result = await session.state.takeLease(session.sessionId, randomUUID(), "w", 60_000, isAlone);
    if (!result.taken) throw new Error(`not taken: ${result.reason}`);
    return result.lease;
  };

  it("makes the message suspect that waited first, and counts as its failure only where it was alone", async () => {
    expect((await open()).opened).toEqual({ suspects: 0, attempts: 0 });
    expect((await open()).opened).toEqual({ suspects: 1, attempts: 0 });
    expect((await open(true)).opened).toEqual({ suspects: 2, attempts: 0 });
    expect((await open()).opened).toEqual({ suspects: 2, attempts: 1 });
    expect((await open()).opened).toEqual({ suspects: 3, attempts: 1 });
  });

  it.each([
    ["", true],
    [", also where that is not clean", false],
  ])("is none where the lease was released, and what was counted stays%s", async (_, clean) => {
    await open();
    const second = await open();
    await session.state.releaseLease(session.sessionId, second, { generation: 0, handBack: true, clean });
    expect((await open()).opened).toEqual({ suspects: 1, attempts: 0 });
    expect((await open()).opened).toEqual({ suspects: 2, attempts: 0 });
  });

  it("is forgotten once the turn is started, and says nothing of another message", async () => {
    await open();
    const second = await open();
    await session.accept("b");
    await start(second, false);
    expect((await open()).opened).toEqual({ suspects: 0, attempts: 0 });
    const third = await open();
    expect(third.opened).toEqual({ suspects: 1, attempts: 0 });
    await session.state.publish(session.sessionId, third, {
      ...{ generation: 1, replies: [], ends: [session.end("a")] },
    });
    expect((await open()).opened).toEqual({ suspects: 0, attempts: 0 });
  });

  it("leaves nothing in a session that is at rest", async () => {
    const lease = await open();
    await session.state.publish(session.sessionId, lease, {
      ...{ generation: 1, replies: [], ends: [session.end("a")] },
    });
    await session.state.releaseLease(session.sessionId, lease, { generation: 1, handBack: false });
    expect(await redis.client.hget(sessionKeys(session.sessionId).session, "opening")).toBeNull();
  });
});

describe("a worker's death", () => {
  it("makes the message suspect that it was at work on, once, and counts as its failure only where it was alone", async () => {
    expect(await count(await succeed())).toEqual({ suspects: 0, attempts: 0 });
    await start(await succeed(), false);
    const second = await succeed();
    expect(await count(second)).toEqual({ suspects: 1, attempts: 0 });
    expect(await count(second)).toEqual({ suspects: 1, attempts: 0 });
    expect(await session.state.readMessage(id("a"))).toMatchObject({ state: "accepted" });
    await start(second, false);
    const third = await succeed();
    expect(await count(third)).toEqual({ suspects: 2, attempts: 0 });
    await start(third, true);
    expect(await count(await succeed())).toEqual({ suspects: 2, attempts: 1 });
    expect(await count(await succeed())).toEqual({ suspects: 2, attempts: 1 });
  });

  it("is counted by whoever starts the turn again, too", async () => {
    await start(await succeed(), true);
    expect(await start(await succeed(), false)).toEqual([1]);
    const third = await succeed();
    expect(await count(third)).toEqual({ suspects: 1, attempts: 1 });
  });

  it("is none where the turn failed or was answered before", async () => {
    const first = await succeed();
    await start(first, true);
    await session.state.failTurn(session.sessionId, first, [id("a")], {
      ...{ turnId: "t", counted: false, retryInMs: 0 },
      error: { code: "STORE_UNAVAILABLE", message: "away" },
    });
    const second = await succeed();
    expect(await count(second)).toEqual({ suspects: 0, attempts: 0 });
    await start(second, false);
    expect(await count(await succeed())).toEqual({ suspects: 1, attempts: 0 });
  });

  it("is not counted by an activation that lost the session", async () => {
    const lost = await succeed();
    await succeed();
    await expect(count(lost)).rejects.toMatchObject({ code: "FENCED" });
  });
});
