import { type Lease, messageKey, sessionKeys } from "@longshore/shared";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { openRedisFixture, type RedisFixture, SessionFixture } from "./redis-fixture.ts";

let redis: RedisFixture;
let session: SessionFixture;
let lease: Lease;
beforeAll(async () => {
  redis = await openRedisFixture();
});
afterAll(() => redis[Symbol.asyncDispose]());
beforeEach(async () => {
  session = new SessionFixture(redis.client);
  lease = await session.lease();
});

const publish = (
  generation: number,
  replies: readonly ReturnType<SessionFixture["reply"]>[],
  ends: readonly ReturnType<SessionFixture["end"]>[] = [],
) => session.state.publish(session.sessionId, lease, { generation, replies, ends });
const outbox = async () => (await session.state.readOutbox(session.sessionId, 100)).map(({ text }) => text);
const record = (senderId: string) => session.state.readMessage(session.message(senderId).id);

describe("publishing a commit (I6)", () => {
  it("moves its replies to the outbox and takes the messages that it ends out of the mailbox, by id", async () => {
    for (const sender of ["a", "b", "c"]) await session.accept(sender);
    const waiting = await publish(
      1,
      [session.reply(1, 0), session.reply(1, 1)],
      [session.end("b"), session.end("a", "dead")],
    );
    expect(waiting).toBe(1);
    expect((await session.state.readMailbox(session.sessionId, 10)).map(({ text }) => text)).toEqual(["c"]);
    expect(await outbox()).toEqual(["reply 1.0", "reply 1.1"]);
    expect(await record("b")).toMatchObject({ state: "answered", generation: 1 });
    expect((await record("b"))?.endedAt).toBeGreaterThan(0);
    expect(await record("a")).toMatchObject({ state: "dead", error: { code: "AGENT_CRASHED" } });
    expect(await record("c")).toMatchObject({ state: "accepted" });
    expect(await redis.client.pttl(messageKey(session.message("a").id))).toBeGreaterThan(0);
  });

  it("adds nothing twice when it is done again", async () => {
    await session.accept("a");
    const once = () => publish(1, [session.reply(1)], [session.end("a")]);
    await once();
    const before = await record("a");
    await once();
    expect(await outbox()).toEqual(["reply 1.0"]);
    expect(await record("a")).toEqual(before);
    expect((await session.eventTypes()).filter((type) => type === "message.ended")).toHaveLength(1);
  });

  it("does not bring back a reply that was delivered, and never lowers the generation", async () => {
    await publish(2, [session.reply(2)]);
    expect(await session.state.markDelivered(session.reply(2), "platform-1")).toBe(true);
    await publish(1, [session.reply(2), session.reply(1)]);
    expect(await outbox()).toEqual(["reply 1.0"]);
    expect((await session.state.inspect(session.sessionId)).generation).toBe(2);
  });

  it("orders replies by generation and index, whatever order they come in", async () => {
    await publish(10, [session.reply(10, 1), session.reply(10, 0)]);
    await publish(9, [session.reply(9, 0)]);
    expect(await outbox()).toEqual(["reply 9.0", "reply 10.0", "reply 10.1"]);
  });

  it("does not change the end that a message had", async () => {
    await session.accept("a");
    await publish(1, [], [session.end("a")]);
    await publish(2, [], [session.end("a", "dead")]);
    expect(await record("a")).toMatchObject({ state: "answered", generation: 1 });
  });

  it("ends what Redis has forgotten, without an entry in the mailbox", async () => {
    await publish(3, [session.reply(3)], [session.end("a")]);
    expect(await outbox()).toEqual(["reply 3.0"]);
    expect(await record("a")).toBeUndefined();
  });
});

describe("delivery", () => {
  it("is recorded once, and the reply leaves the outbox", async () => {
    await publish(1, [session.reply(1, 0), session.reply(1, 1)]);
    const attempts = await Promise.all(
      Array.from({ length: 5 }, () => session.state.markDelivered(session.reply(1, 0), "platform-1")),
    );
    expect(attempts.filter(Boolean)).toHaveLength(1);
    expect(await outbox()).toEqual(["reply 1.1"]);
    const delivered = (await session.state.readEvents(session.sessionId, "0", 100)).at(-1)?.event;
    expect(delivered).toEqual({
      type: "reply.delivered",
      replyId: "reply-1-0",
      platformMessageId: "platform-1",
    });
    expect(await redis.client.hlen(sessionKeys(session.sessionId).replies)).toBe(1);
  });

  it("counts the calls before they are made, and only for what is in the outbox", async () => {
    await publish(1, [session.reply(1)]);
    expect(await session.state.startDelivery(session.reply(1), true)).toMatchObject({ attempts: 1 });
    expect(await session.state.startDelivery(session.reply(1), true)).toMatchObject({ attempts: 2 });
    await session.state.markDelivered(session.reply(1), undefined);
    expect(await session.state.startDelivery(session.reply(1), true)).toBeUndefined();
    expect(await redis.client.exists(sessionKeys(session.sessionId).sending)).toBe(0);
  });

  it("is not begun again after a call of unknown outcome, unless it may be", async () => {
    const { state } = session;
    await publish(1, [session.reply(1)]);
    expect(await state.startDelivery(session.reply(1), false)).toMatchObject({ started: true, attempts: 1 });
    expect(await state.startDelivery(session.reply(1), false)).toMatchObject({ started: false, attempts: 1 });
    await state.recordRefusal(session.reply(1));
    expect(await state.startDelivery(session.reply(1), false)).toMatchObject({ started: true, attempts: 2 });
    expect(await state.startDelivery(session.reply(1), true)).toMatchObject({ started: true, attempts: 3 });
    await state.recordRefusal(session.reply(2));
    expect(await redis.client.hlen(sessionKeys(session.sessionId).sending)).toBe(1);
  });

  it("that is given up leaves a dead reply, and a later commit does not bring it back", async () => {
    await publish(1, [session.reply(1)]);
    const dead = {
      reply: session.reply(1),
      error: { code: "WEBHOOK_REFUSED", message: "410" },
      attempts: 3,
      diedAt: 5,
    };
    expect(await session.state.buryReply(dead)).toBe(true);
    expect(await session.state.buryReply(dead)).toBe(false);
    expect(await session.state.readDeadReplies(session.sessionId)).toEqual([dead]);
    await publish(2, [session.reply(1), session.reply(2)]);
    expect(await outbox()).toEqual(["reply 2.0"]);
  });

  it("remembers a bounded number, and not for ever", async () => {
    const { delivered } = sessionKeys(session.sessionId);
    const old = Array.from({ length: 1_500 }, (_, index) => [index, `old-${index}`] as const);
    await redis.client.zadd(delivered, ...old.flat());
    await publish(1, [session.reply(1)]);
    await session.state.markDelivered(session.reply(1), undefined);
    expect(await redis.client.zcard(delivered)).toBe(1_000);
    expect(await redis.client.zscore(delivered, "reply-1-0")).not.toBeNull();
    expect(await redis.client.pttl(delivered)).toBeGreaterThan(0);
  });
});
