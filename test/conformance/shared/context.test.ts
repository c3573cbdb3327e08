import { type AcceptedMessage, messageKey, sessionKeys } from "@longshore/shared";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { gatherMessages } from "../../../apps/worker/src/turn-messages.ts";
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

const BOUND = { messages: 3, keepMs: 60_000 };
const id = (senderId: string) => session.message(senderId).id;
const add = (senderId: string, bound = BOUND, change: Partial<AcceptedMessage> = {}) =>
  session.state.acceptContext({ ...session.message(senderId), wake: false, ...change }, bound);
const texts = (messages: readonly AcceptedMessage[]) => messages.map(({ text }) => text);
const record = (senderId: string) => session.state.readMessage(id(senderId));

/** The next turn with so many messages that wake. */
async function gather(waking = 1, since = 0) {
  const next = await session.state.readWaiting(session.sessionId, waking);
  return gatherMessages(session.state, session.sessionId, next.waking, { length: next.context, since });
}
/** Publishes what a turn's commit would. */
const end = async (generation: number, senderIds: readonly string[], contextDropped = 0) =>
  session.state.publish(session.sessionId, await session.lease(), {
    ...{ generation, replies: [], contextDropped },
    ends: senderIds.map((senderId) => session.end(senderId)),
  });

describe("a message that only adds context", () => {
  it("has its number in one order with the others, wakes nobody and takes no room in the mailbox", async () => {
    const first = await add("a");
    const second = await session.accept("b", 1);
    const third = await add("c");
    expect(first).toMatchObject({ duplicate: false, state: "accepted" });
    expect(second.seq).toBeGreaterThan(first.seq);
    expect(third.seq).toBeGreaterThan(second.seq);
    expect(await session.state.inspect(session.sessionId)).toMatchObject({ waiting: 1 });
    expect(await session.eventTypes()).toEqual(["accepted", "accepted", "accepted"]);
    expect(await record("a")).toMatchObject({ seq: first.seq, state: "accepted" });
  });

  it("is told up to so many bytes, the newest; of the others the text is not kept", async () => {
    const bound = { ...BOUND, messages: 20 };
    const large = "x".repeat(1024 ** 2);
    for (let at = 0; at < 9; at++) await add(`${at}`, bound, { text: large });
    await session.accept("a");
    const { context, stale, contextDropped } = await gather();
    expect(context.map(({ id: told }) => told)).toEqual([2, 3, 4, 5, 6, 7, 8].map((at) => id(`${at}`)));
    expect(stale).toMatchObject([
      { id: id("0"), text: "" },
      { id: id("1"), text: "" },
    ]);
    expect(contextDropped).toBe(2);
  });

  it("is the same again with the same id, also as one that wakes", async () => {
    const first = await add("a");
    expect(await add("a")).toEqual({ ...first, duplicate: true });
    expect(await session.accept("a")).toMatchObject({ seq: first.seq, duplicate: true });
    expect((await session.state.readWaiting(session.sessionId, 9)).waking).toEqual([]);
  });

  it("does not keep a lease, nor the session when it is idle", async () => {
    await add("a");
    expect(await redis.client.pttl(sessionKeys(session.sessionId).session)).toBeGreaterThan(0);
    const lease = await session.lease();
    const released = await session.state.releaseLease(session.sessionId, lease, {
      generation: 0,
      handBack: false,
    });
    expect(released).toBe(true);
    for (const key of [sessionKeys(session.sessionId).context, messageKey(id("a"))])
      expect(await redis.client.pttl(key)).toBeGreaterThan(0);
  });

  it("is told in its place, before the message that wakes, and what came after that waits", async () => {
    await add("a");
    await session.accept("b");
    await add("c");
    await session.accept("d");
    await add("e");
    expect(texts((await gather(1)).inOrder)).toEqual(["a", "b"]);
    const both = await gather(2);
    expect(texts(both.inOrder)).toEqual(["a", "b", "c", "d"]);
    expect(texts(both.waking)).toEqual(["b", "d"]);
    expect(texts(both.context)).toEqual(["a", "c"]);
  });

  it("ends with the commit that told it, and not before", async () => {
    await add("a");
    await session.accept("b");
    expect(texts((await gather()).context)).toEqual(["a"]);
    expect(texts((await gather()).context)).toEqual(["a"]);
    await end(1, ["a", "b"]);
    expect(await record("a")).toMatchObject({ state: "answered", generation: 1 });
    expect((await session.state.readWaiting(session.sessionId, 9)).context).toBe(0);
  });

  it("drops the oldest beyond the count, which ends them, and says how many until a commit has recorded it", async () => {
    for (const senderId of ["a", "b", "c", "d", "e"]) await add(senderId);
    await session.accept("f");
    const turn = await gather();
    expect(texts(turn.context)).toEqual(["c", "d", "e"]);
    expect(turn.contextDropped).toBe(2);
    expect(await record("a")).toMatchObject({ state: "cancelled", error: { code: "CONTEXT_DROPPED" } });
    expect(await record("c")).toMatchObject({ state: "accepted" });
    await end(1, ["f"], 2);
    await redis.client.del(sessionKeys(session.sessionId).lease);
    await end(1, ["f"], 2);
    await session.accept("g");
    expect((await gather()).contextDropped).toBe(0);
  });

  it("drops what is too old, when another one comes and when it would be told", async () => {
    await add("a");
    await add("b", { messages: 3, keepMs: 0 });
    expect(await record("a")).toMatchObject({ state: "cancelled" });
    await add("c", BOUND, { acceptedAt: "2020-01-01T00:00:00.000Z" });
    await session.accept("d");
    const turn = await gather(1, Date.parse("2021-01-01T00:00:00.000Z"));
    expect(texts(turn.inOrder)).not.toContain("c");
    expect(texts(turn.stale)).toEqual(["c"]);
  });

  it("takes many at once within the bound", async () => {
    await Promise.all(
      Array.from({ length: 30 }, (_, index) => add(`many-${index}`, { ...BOUND, messages: 1_000 })),
    );
    expect((await session.state.readWaiting(session.sessionId, 1)).context).toBe(30);
  });
});
