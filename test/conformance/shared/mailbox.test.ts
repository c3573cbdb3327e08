import { deriveMessageId, messageKey, sessionKeys, workerChannel } from "@longshore/shared";
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

const texts = async () => (await session.state.readMailbox(session.sessionId, 100)).map(({ text }) => text);

describe("accepting (I1, I2)", () => {
  it("appends in order, with rising numbers and a record", async () => {
    const first = await session.accept("a");
    const second = await session.accept("b");
    expect(first).toMatchObject({ duplicate: false, state: "accepted", leased: false });
    expect(second.seq).toBeGreaterThan(first.seq);
    expect(await texts()).toEqual(["a", "b"]);
    expect(await session.state.readMessage(session.message("a").id)).toMatchObject({
      seq: first.seq,
      state: "accepted",
      attempts: 0,
      suspects: 0,
    });
    expect(await session.eventTypes()).toEqual(["accepted", "accepted"]);
  });

  it("gives a message whole, as it was accepted", async () => {
    const message = {
      ...session.message("a", "Ünïcödé 🙂 \u0000 end"),
      metadata: { deep: "x".repeat(1_000) },
    };
    await session.state.accept(message, 1);
    expect(await session.state.readMailbox(session.sessionId, 1)).toEqual([message]);
  });

  it("knows the same id again, whatever else was changed, and changes nothing", async () => {
    const first = await session.accept("a");
    const again = await session.state.accept(session.message("a", "another text"), 1);
    expect(again).toEqual({ ...first, duplicate: true });
    expect(await texts()).toEqual(["a"]);
    expect(await session.eventTypes()).toEqual(["accepted"]);
  });

  it("appends once where the same id comes many times at once", async () => {
    const results = await Promise.all(Array.from({ length: 20 }, () => session.accept("a")));
    expect(results.filter(({ duplicate }) => !duplicate)).toHaveLength(1);
    expect(new Set(results.map(({ seq }) => seq)).size).toBe(1);
    expect(await texts()).toEqual(["a"]);
  });

  it("takes those that come together as if one came after the other, up to the bound", async () => {
    await session.accept("known");
    const results = await Promise.allSettled(
      ["a", "known", "b", "a", "c", "d"].map((senderId) => session.accept(senderId, 4)),
    );
    const [a, known, b, again, c, d] = results.map((result) =>
      result.status === "fulfilled" ? result.value : result.reason.code,
    );
    expect([known.duplicate, a.duplicate, again.duplicate]).toEqual([true, false, true]);
    expect(again.seq).toBe(a.seq);
    expect([b.seq, c.seq].toSorted((x, y) => x - y)).toEqual([b.seq, c.seq]);
    expect(d).toBe("MAILBOX_FULL");
    expect(await texts()).toEqual(["known", "a", "b", "c"]);
    expect(await session.state.readMessage(session.message("d").id)).toBeUndefined();
    expect(await session.eventTypes()).toEqual(Array(4).fill("accepted"));
    // The numbers of those that come later are above.
    expect((await session.accept("e")).seq).toBeGreaterThan(c.seq);
  });

  it("refuses beyond the bound, half-accepts nothing, and still knows duplicates", async () => {
    await session.accept("a", 2);
    await session.accept("b", 2);
    await expect(session.accept("c", 2)).rejects.toMatchObject({
      code: "MAILBOX_FULL",
      waiting: 2,
      retryable: true,
    });
    expect(await session.state.readMessage(session.message("c").id)).toBeUndefined();
    expect(await texts()).toEqual(["a", "b"]);
    expect(await session.accept("b", 2)).toMatchObject({ duplicate: true });
  });

  it("never gives a number again after the mailbox was deleted", async () => {
    const { seq } = await session.accept("a");
    const ahead = seq + 3_600_000_000;
    const { session: sessionKey, mailbox } = sessionKeys(session.sessionId);
    // As where the clock went back by an hour.
    await redis.client.hset(sessionKey, "lastSeq", ahead);
    await redis.client.del(mailbox);
    expect((await session.accept("b")).seq).toBe(ahead + 1);
    expect((await session.accept("c")).seq).toBe(ahead + 2);
    expect(await texts()).toEqual(["b", "c"]);
  });

  it("tells the worker whose activation holds the session", async () => {
    const listener = redis.client.duplicate();
    try {
      await listener.subscribe(workerChannel("worker-1"));
      const heard = new Promise((resolve) =>
        listener.once("message", (_channel, payload) => resolve(payload)),
      );
      await session.lease();
      expect(await session.accept("a")).toMatchObject({ leased: true });
      expect(await heard).toBe(session.sessionId);
      expect(await session.accept("a")).toMatchObject({ leased: true, duplicate: true });
    } finally {
      listener.disconnect();
    }
  });

  it("takes a message anew that Redis had forgotten, although its end was published again", async () => {
    const lease = await session.lease();
    await session.state.publish(session.sessionId, lease, {
      generation: 1,
      replies: [],
      ends: [session.end("a")],
    });
    expect(await session.accept("a")).toMatchObject({ duplicate: false });
    const record = await session.state.readMessage(session.message("a").id);
    expect(record).toMatchObject({ state: "accepted" });
    expect(record?.endedAt).toBeUndefined();
    expect(await redis.client.pttl(messageKey(session.message("a").id))).toBe(-1);
  });

  it("works where Redis does not know the script any more", async () => {
    await session.accept("a");
    await redis.client.script("FLUSH");
    expect(await session.accept("b")).toMatchObject({ duplicate: false });
  });

  it("survives a restart of Redis", async () => {
    await session.accept("a");
    await redis.server.stop();
    await redis.server.restart();
    expect(await texts()).toEqual(["a"]);
    expect(await session.accept("a")).toMatchObject({ duplicate: true });
  });

  it("keeps sessions apart: another session may use the same sender's id", async () => {
    const other = new SessionFixture(redis.client);
    await session.accept("a");
    expect(await other.accept("a")).toMatchObject({ duplicate: false });
    expect(deriveMessageId(other.sessionId, "a")).not.toBe(deriveMessageId(session.sessionId, "a"));
  });
});

describe("events", () => {
  it("are read on from any of them", async () => {
    await session.accept("a");
    const after = await session.state.newestEventId(session.sessionId);
    await session.state.addEvents(session.sessionId, [{ type: "text", turnId: "t", text: "ä" }]);
    const [only, ...rest] = await session.state.readEvents(session.sessionId, after, 10);
    expect(only?.event).toEqual({ type: "text", turnId: "t", text: "ä" });
    expect(rest).toEqual([]);
  });

  it("are capped and expire", async () => {
    const small = new SessionFixture(redis.client, { eventsLength: 100 });
    for (let index = 0; index < 1_000; index++) {
      await small.state.addEvents(small.sessionId, [{ type: "text", turnId: "t", text: String(index) }]);
    }
    const { events } = sessionKeys(small.sessionId);
    // The cap is by whole nodes of the stream, 100 entries each.
    expect(await redis.client.xlen(events)).toBeLessThanOrEqual(200);
    expect(await redis.client.pttl(events)).toBeGreaterThan(0);
  });

  it("are none for a session without any", async () => {
    expect(await session.state.newestEventId(session.sessionId)).toBe("0");
    expect(await session.state.readEvents(session.sessionId, "0", 10)).toEqual([]);
  });
});
