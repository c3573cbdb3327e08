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
beforeEach(() => {
  session = new SessionFixture(redis.client);
});

const take = (nonce = "n1") => session.state.takeLease(session.sessionId, nonce, "worker-1", 60_000);
const release = (lease: Lease, generation = 0, handBack = false) =>
  session.state.releaseLease(session.sessionId, lease, { generation, handBack });
const dropLease = () => redis.client.del(sessionKeys(session.sessionId).lease);

describe("taking a lease", () => {
  it("gives a new epoch each time, and says how the last holder left", async () => {
    expect(await take("n1")).toEqual({
      taken: true,
      lease: {
        ...{ nonce: "n1", epoch: 1, before: "unknown", publishedGeneration: 0, left: undefined },
        opened: { suspects: 0, attempts: 0 },
        waiting: { waking: [], context: 0 },
      },
    });
    await dropLease();
    const second = await take("n2");
    expect(second).toMatchObject({ taken: true, lease: { epoch: 2, before: "unclean" } });
    expect(await release(await leaseOf(second))).toBe(true);
    expect(await take("n3")).toMatchObject({ taken: true, lease: { epoch: 3, before: "clean" } });
  });

  it("gives the head of the mailbox, and how much context waits", async () => {
    const { seq } = await session.accept("a");
    await session.accept("b");
    await session.state.acceptContext(session.message("c"), { messages: 10, keepMs: 60_000 });
    expect(await take()).toMatchObject({
      lease: {
        waiting: { waking: [{ seq, message: { id: session.message("a").id, text: "a" } }], context: 1 },
      },
    });
  });

  it("is refused while another activation holds it, with for how long", async () => {
    await take("n1");
    const refused = await take("n2");
    expect(refused).toMatchObject({ taken: false, reason: "leased" });
    expect(refused.taken ? 0 : refused.forMs).toBeGreaterThan(50_000);
  });

  it("says the same to its holder, who asks again where a connection broke off", async () => {
    await session.accept("a");
    await take("n0");
    await dropLease();
    const first = await take("n1");
    expect(first).toMatchObject({ taken: true, lease: { before: "unclean", opened: { suspects: 1 } } });
    expect(await take("n1")).toEqual(first);
    expect(await take("n2")).toMatchObject({ taken: false, reason: "leased" });
  });

  it("goes to one of many at once", async () => {
    const results = await Promise.all(Array.from({ length: 20 }, (_, index) => take(`n${index}`)));
    expect(results.filter(({ taken }) => taken)).toHaveLength(1);
  });

  it("is possible again once it has run out by Redis' clock", async () => {
    await session.state.takeLease(session.sessionId, "n1", "worker-1", 1);
    await expect.poll(() => redis.client.exists(sessionKeys(session.sessionId).lease)).toBe(0);
    expect(await take("n2")).toMatchObject({ taken: true, lease: { before: "unclean" } });
  });

  it("gives the newest generation that was published", async () => {
    const lease = await session.lease();
    await session.state.publish(session.sessionId, lease, { generation: 7, replies: [], ends: [] });
    await release(lease, 7);
    expect(await take()).toMatchObject({ lease: { publishedGeneration: 7 } });
  });

  it("waits while a retry is not due", async () => {
    await session.accept("a");
    const lease = await session.lease();
    await fail(lease, { retryInMs: 60_000 });
    expect(await release(lease, 0, true)).toBe(true);
    const refused = await take();
    expect(refused).toMatchObject({ taken: false, reason: "waiting" });
    expect(refused.taken ? 0 : refused.forMs).toBeGreaterThan(50_000);
  });
});

describe("holding a lease", () => {
  it("is prolonged by renewing it", async () => {
    const lease = await session.lease(randomUUID(), 5_000);
    await session.state.renewLease(session.sessionId, lease, 60_000);
    expect(await redis.client.pttl(sessionKeys(session.sessionId).lease)).toBeGreaterThan(50_000);
  });

  it("goes on under a raised epoch, and not under the one before", async () => {
    const lease = await session.lease();
    await session.state.raiseEpoch(session.sessionId, lease, 40);
    await expect(session.state.renewLease(session.sessionId, lease, 60_000)).rejects.toMatchObject({
      code: "FENCED",
    });
    const raised = { ...lease, epoch: 40 };
    await session.state.renewLease(session.sessionId, raised, 60_000);
    await release(raised);
    expect(await take()).toMatchObject({ lease: { epoch: 41, before: "clean" } });
  });
});

describe("releasing a lease", () => {
  it("is refused while messages wait, unless they are handed back", async () => {
    await session.accept("a");
    const lease = await session.lease();
    expect(await release(lease)).toBe(false);
    await session.state.renewLease(session.sessionId, lease, 60_000);
    expect(await release(lease, 0, true)).toBe(true);
    expect(await session.state.readMailbox(session.sessionId, 10)).toHaveLength(1);
  });

  it("is refused while a generation is not published", async () => {
    const lease = await session.lease();
    await expect(release(lease, 1)).rejects.toThrow("not published");
    await session.state.publish(session.sessionId, lease, { generation: 1, replies: [], ends: [] });
    expect(await release(lease, 1)).toBe(true);
  });

  it("is unclean where a commit may still become visible: the next begins with a takeover record (I5)", async () => {
    const lease = await session.lease();
    const unsettled = { generation: 0, handBack: true, clean: false };
    expect(await session.state.releaseLease(session.sessionId, lease, unsettled)).toBe(true);
    expect(await take()).toMatchObject({ taken: true, lease: { before: "unclean" } });
  });

  it("lets Redis forget an idle session in time, and a new message keeps it", async () => {
    const { session: key } = sessionKeys(session.sessionId);
    expect(await release(await session.lease())).toBe(true);
    expect(await redis.client.pttl(key)).toBeGreaterThan(0);
    await session.accept("a");
    expect(await redis.client.pttl(key)).toBe(-1);
  });
});

describe("the fence (I5)", () => {
  const operations: [string, (lease: Lease) => Promise<unknown>][] = [
    ["renew", (lease) => session.state.renewLease(session.sessionId, lease, 60_000)],
    ["raise the epoch", (lease) => session.state.raiseEpoch(session.sessionId, lease, 99)],
    ["release", (lease) => release(lease, 0, true)],
    ["start a turn", (lease) => session.state.startTurn(session.sessionId, lease, [id("a")], "t1")],
    ["fail a turn", (lease) => fail(lease)],
    [
      "publish",
      (lease) =>
        session.state.publish(session.sessionId, lease, {
          generation: 1,
          replies: [session.reply(1)],
          ends: [session.end("a")],
        }),
    ],
  ];

  it.each(operations)(
    "does not let an activation %s that lost its session, and changes nothing",
    async (_, operate) => {
      await session.accept("a");
      const lost = await session.lease("n1");
      await dropLease();
      await expect(operate(lost)).rejects.toMatchObject({ code: "FENCED" });

      const held = await session.lease("n2");
      const before = await snapshot();
      await expect(operate(lost)).rejects.toMatchObject({ code: "FENCED" });
      // A Redis that came back with older data may have given the same epoch twice.
      await expect(operate({ nonce: lost.nonce, epoch: held.epoch })).rejects.toMatchObject({
        code: "FENCED",
      });
      await expect(operate({ nonce: held.nonce, epoch: lost.epoch })).rejects.toMatchObject({
        code: "FENCED",
      });
      expect(await snapshot()).toEqual(before);
      await operate(held);
    },
  );
});

describe("turns", () => {
  it("mark their messages as running and give how often each failed", async () => {
    await session.accept("a");
    await session.accept("b");
    const lease = await session.lease();
    expect(await session.state.startTurn(session.sessionId, lease, [id("a"), id("b")], "t1")).toEqual([0, 0]);
    expect(await session.state.readMessage(id("a"))).toMatchObject({ state: "running" });
    await fail(lease);
    expect(await session.state.readMessage(id("a"))).toMatchObject({
      state: "accepted",
      attempts: 1,
      error: { code: "AGENT_CRASHED", message: "it crashed" },
    });
    expect(await session.state.startTurn(session.sessionId, lease, [id("a"), id("b")], "t2")).toEqual([1, 0]);
    expect(await session.eventTypes()).toEqual([
      "accepted",
      "accepted",
      "turn.started",
      "turn.failed",
      "turn.started",
    ]);
  });

  it("don't count an attempt for what is not the message's fault", async () => {
    await session.accept("a");
    const lease = await session.lease();
    await session.state.startTurn(session.sessionId, lease, [id("a")], "t1");
    await fail(lease, { counted: false });
    expect(await session.state.readMessage(id("a"))).toMatchObject({ state: "accepted", attempts: 0 });
  });

  it("make a message suspect that another activation left running, and only then", async () => {
    await session.accept("a");
    const first = await session.lease("n1");
    await session.state.startTurn(session.sessionId, first, [id("a")], "t1");
    await session.state.startTurn(session.sessionId, first, [id("a")], "t2");
    expect(await session.state.readMessage(id("a"))).toMatchObject({ suspects: 0 });
    await dropLease();
    const second = await session.lease("n2");
    await session.state.startTurn(session.sessionId, second, [id("a")], "t3");
    expect(await session.state.readMessage(id("a"))).toMatchObject({ suspects: 1, attempts: 0 });
  });
});

describe("a turn that fails through no fault of its messages", () => {
  it("is counted as a trouble where it has to wait, and as no attempt", async () => {
    await session.accept("a");
    const lease = await session.lease("n1");
    await session.state.startTurn(session.sessionId, lease, [id("a")], "t1");
    // Handed back.
    await fail(lease, { counted: false });
    expect(await session.state.readMessage(id("a"))).toMatchObject({ troubles: 0, attempts: 0 });
    await fail(lease, { counted: false, retryInMs: 1_000 });
    await fail(lease, { counted: false, retryInMs: 1_000 });
    await fail(lease, { retryInMs: 1_000 });
    expect(await session.state.readMessage(id("a"))).toMatchObject({ troubles: 2, attempts: 1 });
  });
});

const id = (senderId: string) => session.message(senderId).id;

const fail = (lease: Lease, change: { counted?: boolean; retryInMs?: number } = {}) =>
  session.state.failTurn(session.sessionId, lease, [id("a")], {
    turnId: "t1",
    error: { code: "AGENT_CRASHED", message: "it crashed" },
    counted: true,
    retryInMs: 0,
    ...change,
  });

async function leaseOf(result: Awaited<ReturnType<typeof take>>): Promise<Lease> {
  if (!result.taken) throw new Error("not taken");
  return result.lease;
}

/** All that Redis holds of the session. */
async function snapshot(): Promise<Record<string, string>> {
  const keys = (await redis.client.keys(`longshore:{${session.sessionId}}:*`)).sort();
  const dumps = await Promise.all(keys.map((key) => redis.client.dumpBuffer(key)));
  return Object.fromEntries(keys.map((key, index) => [key, dumps[index]?.toString("hex") ?? ""]));
}
