import { type AtWork, type Lease, sessionKeys } from "@longshore/shared";
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

const id = (senderId: string) => session.message(senderId).id;
const accept = (senderId: string, atWork: AtWork) =>
  session.state.accept(session.message(senderId), 100, atWork);
const start = (lease: Lease, turnId: string, ...senderIds: string[]) =>
  session.state.startTurn(session.sessionId, lease, senderIds.map(id), turnId);
const mark = (turnId: string) => session.state.readMark(session.sessionId, turnId);
const fail = (lease: Lease, oneByOne: boolean, ...senderIds: string[]) =>
  session.state.failTurn(session.sessionId, lease, senderIds.map(id), {
    ...{ turnId: "t1", counted: false, retryInMs: 60_000, oneByOne },
    error: { code: "AGENT_EXITED", message: "it crashed" },
  });

describe("a message for a session that is at work", () => {
  it("is refused where the agent takes one at a time, until the other has ended, and leaves nothing", async () => {
    await accept("a", "reject");
    await expect(accept("b", "reject")).rejects.toMatchObject({ code: "SESSION_BUSY", retryable: true });
    expect(await session.state.readMessage(id("b"))).toBeUndefined();
    expect(await accept("a", "reject")).toMatchObject({ duplicate: true });
    await session.state.publish(session.sessionId, await session.lease(), {
      ...{ generation: 1, replies: [], ends: [session.end("a")] },
    });
    expect(await accept("b", "reject")).toMatchObject({ duplicate: false });
  });

  it.each([
    ["interrupt", "cancel"],
    ["rollback", "rollback"],
  ] as const)(
    "marks the turn that runs, where it is to %s it, and nothing where none runs",
    async (atWork, mode) => {
      expect(await accept("a", atWork)).toMatchObject({ marked: false });
      const lease = await session.lease();
      expect(await accept("b", atWork)).toMatchObject({ marked: false });
      await start(lease, "t1", "a");
      expect(await mark("t1")).toBeUndefined();
      expect(await accept("c", atWork)).toMatchObject({ marked: true, leased: true });
      expect(await mark("t1")).toBe(mode);
      expect(await accept("c", atWork)).toMatchObject({ marked: false, duplicate: true });
      expect((await session.eventTypes()).filter((type) => type === "turn.cancelling")).toHaveLength(1);
    },
  );

  it("does not bring back a turn that somebody cancelled", async () => {
    await accept("a", "rollback");
    await start(await session.lease(), "t1", "a");
    await accept("b", "rollback");
    await session.state.cancelTurn(session.sessionId, "t1");
    expect(await mark("t1")).toBe("cancel");
    await accept("c", "rollback");
    expect(await mark("t1")).toBe("cancel");
  });

  it("makes a retry that waits due now; a turn that is rolled back starts again, with both", async () => {
    await accept("a", "rollback");
    const first = await session.lease("n1");
    await start(first, "t1", "a");
    await fail(first, false, "a");
    await redis.client.del(sessionKeys(session.sessionId).lease);
    expect(await accept("b", "rollback")).toMatchObject({ marked: true, leased: false });
    const second = await session.lease("n2");
    expect(second).toMatchObject({ left: { mark: "rollback" } });
    expect(await start(second, "t2", "a", "b")).toEqual([0, 0]);
    expect(await mark("t2")).toBeUndefined();
  });
});

describe("messages of one turn that failed", () => {
  it("are in no turn with others any more, and their failure counts for none", async () => {
    for (const senderId of ["a", "b", "c"]) await session.accept(senderId);
    const lease = await session.lease();
    const singles = () => session.state.readSingles(["a", "b", "c"].map(id));
    expect(await singles()).toEqual([false, false, false]);
    await start(lease, "t1", "a", "b");
    await fail(lease, false, "a", "b");
    expect(await singles()).toEqual([false, false, false]);
    await fail(lease, true, "a", "b");
    expect(await singles()).toEqual([true, true, false]);
    expect(await session.state.readMessage(id("b"))).toMatchObject({ attempts: 0 });
  });

  it("are suspect where their worker died", async () => {
    for (const senderId of ["a", "b"]) await session.accept(senderId);
    await start(await session.lease("n1"), "t1", "a");
    await redis.client.del(sessionKeys(session.sessionId).lease);
    await session.state.countDeaths(session.sessionId, await session.lease("n2"), [id("a")]);
    expect(await session.state.readSingles(["a", "b"].map(id))).toEqual([true, false]);
  });
});
