import type { AcceptedMessage, AtWork, Lease } from "@longshore/shared";
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
  await session.accept("first");
  lease = await session.lease();
  await session.state.startTurn(session.sessionId, lease, [session.message("first").id], "t1");
});

/** Who sent the first message of the turn is asked. */
const ask = (id: string, waitMs = 60_000) =>
  session.state.publish(session.sessionId, lease, {
    ...{ generation: 1, replies: [], ends: [] },
    asks: { id, turnId: "t1", text: "Sure?", options: [], askedOf: [session.message("first")], waitMs },
  });
const say = (name: string, more: Partial<AcceptedMessage> = {}, atWork: AtWork = "interrupt", bound = 100) =>
  session.state.accept({ ...session.message(name), ...more }, bound, atWork);
const answer = async (id: string) => (await session.state.readAnswer(session.sessionId, id))?.text;
const mark = () => session.state.readMark(session.sessionId, "t1");
const end = (generation: number, ...names: string[]) =>
  session.state.publish(session.sessionId, lease, {
    ...{ generation, replies: [], ends: names.map((name) => session.end(name)) },
  });

describe("the answer to a question", () => {
  it("is the next message of who is asked: it ends no turn, and stays until it is ended", async () => {
    expect(await session.eventTypes()).not.toContain("question");
    await ask("q1");
    expect(await session.eventTypes()).toContain("question");
    expect(await answer("q1")).toBeUndefined();
    expect(await say("yes")).toMatchObject({ marked: false, leased: true });
    expect(await mark()).toBeUndefined();
    expect(await answer("q1")).toBe("yes");
    // Sent again it is the same; another one is a message like any other.
    expect(await say("yes")).toMatchObject({ duplicate: true });
    expect(await say("more")).toMatchObject({ marked: true });
    expect(await answer("q1")).toBe("yes");
    await end(2, "yes");
    expect(await answer("q1")).toBeUndefined();
  });

  it.each([
    ["somebody else", { sender: { id: "bob" } }],
    ["another thread", { thread: "t" }],
    ["another conversation", { conversation: "elsewhere" }],
  ])("is none from %s", async (_, more) => {
    await ask("q1");
    expect(await say("no", more)).toMatchObject({ marked: true });
    expect(await answer("q1")).toBeUndefined();
    expect(await say("yes")).toMatchObject({ marked: false });
    expect(await answer("q1")).toBe("yes");
  });

  it("is taken although the agent takes one message at a time, and although the mailbox is full", async () => {
    await ask("q1");
    await expect(say("no", { sender: { id: "bob" } }, "reject")).rejects.toMatchObject({
      code: "SESSION_BUSY",
    });
    await expect(say("no", { sender: { id: "bob" } }, "wait", 1)).rejects.toMatchObject({
      code: "MAILBOX_FULL",
    });
    await say("yes", {}, "reject", 1);
    expect(await answer("q1")).toBe("yes");
  });

  it("is none when the time is over, or when the turn is another one", async () => {
    await ask("q1", -1);
    await say("late", {}, "wait");
    expect(await answer("q1")).toBeUndefined();
    await ask("q2");
    await session.state.startTurn(session.sessionId, lease, [session.message("first").id], "t2");
    await say("later", {}, "wait");
    expect(await answer("q2")).toBeUndefined();
  });

  it("is kept for another attempt at the turn, and forgotten with its end", async () => {
    await ask("q1");
    await say("yes");
    await ask("q2");
    await say("no");
    await session.state.startTurn(session.sessionId, lease, [session.message("first").id], "t2");
    expect([await answer("q1"), await answer("q2")]).toEqual(["yes", "no"]);
    await end(2, "first");
    expect([await answer("q1"), await answer("q2")]).toEqual([undefined, undefined]);
  });

  it("can't be asked for without the lease", async () => {
    lease = { ...lease, nonce: "another" };
    await expect(ask("q1")).rejects.toMatchObject({ code: "FENCED" });
    expect(await say("yes")).toMatchObject({ marked: true });
  });
});
