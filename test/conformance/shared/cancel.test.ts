import { type Lease, openTurnWakes, sessionKeys, workerChannel } from "@longshore/shared";
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
const start = (lease: Lease, turnId: string, ...senderIds: string[]) =>
  session.state.startTurn(session.sessionId, lease, senderIds.map(id), turnId);
const cancel = (turnId?: string) => session.state.cancelTurn(session.sessionId, turnId);
const fail = (lease: Lease, turnId: string, retryInMs: number, ...senderIds: string[]) =>
  session.state.failTurn(session.sessionId, lease, senderIds.map(id), {
    ...{ turnId, retryInMs, counted: true },
    error: { code: "AGENT_EXITED", message: "it crashed" },
  });
const end = (lease: Lease, outcome: "answered" | "cancelled", ...senderIds: string[]) =>
  session.state.publish(session.sessionId, lease, {
    generation: 1,
    replies: [],
    ends: senderIds.map((senderId) => session.end(senderId, outcome)),
  });
const refused = { code: "TURN_NOT_RUNNING" };
const lost = () => redis.client.del(sessionKeys(session.sessionId).lease);

describe("cancelling", () => {
  it("marks the turn that runs, once, and tells the worker that holds it", async () => {
    const listener = redis.client.duplicate();
    try {
      await listener.subscribe(workerChannel("worker-1"));
      const heard = new Promise((resolve) => listener.once("message", (_, payload) => resolve(payload)));
      await session.accept("a");
      const lease = await session.lease();
      await start(lease, "t1", "a");
      expect(await session.state.readMark(session.sessionId, "t1")).toBeUndefined();
      const marked = { turnId: "t1", messageIds: [id("a")], leased: true };
      expect(await cancel("t1")).toEqual(marked);
      expect(await heard).toBe(session.sessionId);
      expect(await cancel("t1")).toEqual(marked);
      expect(await cancel()).toEqual(marked);
      expect(await session.state.readMark(session.sessionId, "t1")).toBe("cancel");
      expect(await session.state.readMark(session.sessionId, "t2")).toBeUndefined();
      expect(await session.eventTypes()).toEqual(["accepted", "turn.started", "turn.cancelling"]);
    } finally {
      listener.disconnect();
    }
  });

  it("is refused where no turn runs, another one does, or it has been answered", async () => {
    await session.accept("a");
    await expect(cancel()).rejects.toMatchObject(refused);
    const lease = await session.lease();
    await start(lease, "t1", "a");
    await expect(cancel("t0")).rejects.toMatchObject(refused);
    await end(lease, "answered", "a");
    await expect(cancel("t1")).rejects.toMatchObject(refused);
    await expect(cancel()).rejects.toMatchObject(refused);
    expect(await session.eventTypes()).not.toContain("turn.cancelling");
  });

  it("is the same request again for a turn that ended by it, and touches no later one", async () => {
    await session.accept("a");
    await session.accept("b");
    const lease = await session.lease();
    await start(lease, "t1", "a");
    await cancel("t1");
    await end(lease, "cancelled", "a");
    expect(await session.state.readMessage(id("a"))).toMatchObject({ state: "cancelled" });
    expect(await cancel("t1")).toEqual({ turnId: "t1", messageIds: [], leased: false });
    expect(await start(lease, "t2", "b")).toEqual([0]);
    expect(await cancel("t1")).toMatchObject({ messageIds: [] });
    expect(await session.state.readMark(session.sessionId, "t2")).toBeUndefined();
  });

  it("that comes too late is dropped with the turn that was answered", async () => {
    await session.accept("a");
    await session.accept("b");
    const lease = await session.lease();
    await start(lease, "t1", "a");
    await cancel("t1");
    await end(lease, "answered", "a");
    expect(await session.state.readMessage(id("a"))).toMatchObject({ state: "answered" });
    expect(await start(lease, "t2", "b")).toEqual([0]);
  });

  it("survives the worker: the next activation learns of it, and can't start those messages again", async () => {
    await session.accept("a");
    await session.accept("b");
    await start(await session.lease("n1"), "t1", "a", "b");
    await lost();
    expect(await cancel("t1")).toMatchObject({ leased: false });
    const taken = await session.state.takeLease(session.sessionId, "n2", "worker-2", 60_000);
    expect(taken).toMatchObject({ lease: { left: { messageIds: [id("a"), id("b")], mark: "cancel" } } });
    if (!taken.taken) throw new Error("not taken");
    await expect(start(taken.lease, "t2", "b")).rejects.toMatchObject({
      code: "TURN_CANCELLED",
      messageIds: [id("a"), id("b")],
    });
    expect(await session.state.readMessage(id("b"))).toMatchObject({ suspects: 0 });
  });

  it("does not let the messages of a failed turn wait for their retry, marked before or after the failure", async () => {
    await session.accept("a");
    const first = await session.lease("n1");
    await start(first, "t1", "a");
    expect(await fail(first, "t1", 60_000, "a")).toBe(false);
    await lost();
    expect(await session.state.takeLease(session.sessionId, "n2", "w", 60_000)).toMatchObject({
      reason: "waiting",
    });
    await cancel();
    const second = await session.lease("n2");
    // As if it had been prompted again before the mark was seen.
    await redis.client.hdel(sessionKeys(session.sessionId).session, "cancel");
    await start(second, "t2", "a");
    await cancel("t2");
    expect(await fail(second, "t2", 60_000, "a")).toBe(true);
    await lost();
    expect(await session.lease("n3")).toMatchObject({ left: { mark: "cancel" } });
  });

  it("can be asked of a turn that failed before it was started", async () => {
    await session.accept("a");
    const lease = await session.lease();
    await fail(lease, "t1", 60_000, "a");
    expect(await cancel("t1")).toMatchObject({ messageIds: [id("a")] });
  });
});

describe("a wake that is hastened", () => {
  it("takes a job out of the delayed ones, and adds one where there is none", async () => {
    const wakes = openTurnWakes(redis.client);
    try {
      const { sessionId } = session;
      await wakes.hasten({ sessionId });
      expect(await wakes.queue.getPrioritizedCount()).toBe(1);
      await wakes.queue.drain();
      await wakes.queue.add(
        "wake",
        { sessionId },
        { delay: 60_000, priority: 1, deduplication: { id: sessionId } },
      );
      expect(await wakes.queue.getDelayedCount()).toBe(1);
      await wakes.hasten({ sessionId });
      expect(await wakes.queue.getDelayedCount()).toBe(0);
      expect(await wakes.queue.getPrioritizedCount()).toBe(1);
    } finally {
      await wakes.close();
    }
  });
});
