import { isRedisFull, sessionKeys } from "@longshore/shared";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { openRedisFixture, type RedisFixture, SessionFixture } from "./redis-fixture.ts";

const TTL_MS = 60_000;

let redis: RedisFixture;
let session: SessionFixture;
beforeAll(async () => {
  redis = await openRedisFixture();
});
afterAll(() => redis[Symbol.asyncDispose]());
beforeEach(async () => {
  await setLimit("0");
  session = new SessionFixture(redis.client);
});

const setLimit = (bytes: string) => redis.client.config("SET", "maxmemory", bytes);

/** Everything that Redis holds, but the times to live. */
async function contents(): Promise<Record<string, string>> {
  const keys = (await redis.client.keys("*")).toSorted();
  const dumps = await Promise.all(keys.map((key) => redis.client.dumpBuffer(key)));
  return Object.fromEntries(keys.map((key, index) => [key, String(dumps[index]?.toString("base64"))]));
}

it("refuses a message whole when Redis is full, and takes it when there is room again", async () => {
  await session.accept("before");
  const before = await contents();
  await setLimit("1");
  await expect(session.accept("a")).rejects.toSatisfy(isRedisFull);
  expect(await contents()).toEqual(before);
  // What was accepted is known as a duplicate only after its entry in the index, which needs memory as well.
  await expect(session.accept("before")).rejects.toSatisfy(isRedisFull);
  await setLimit("0");
  expect(await session.accept("a")).toMatchObject({ duplicate: false });
});

it("adds no event when Redis is full", async () => {
  await setLimit("1");
  await expect(
    session.state.addEvents(session.sessionId, [{ type: "text", turnId: "t", text: "x" }]),
  ).rejects.toSatisfy(isRedisFull);
  expect(await contents()).not.toHaveProperty([sessionKeys(session.sessionId).events]);
});

it("brings to an end what was accepted, although Redis is full", async () => {
  const { sessionId, state } = session;
  const message = session.message("a");
  await session.accept("a");
  await setLimit("1");
  const lease = await session.lease();
  await state.raiseEpoch(sessionId, lease, lease.epoch + 5);
  const raised = { ...lease, epoch: lease.epoch + 5 };
  await state.renewLease(sessionId, raised, TTL_MS);
  await state.startTurn(sessionId, raised, [message.id], "t1");
  await state.failTurn(sessionId, raised, [message.id], {
    ...{ turnId: "t1", error: { code: "X", message: "x" }, counted: true, retryInMs: 0 },
  });
  await state.startTurn(sessionId, raised, [message.id], "t2");
  const replies = [session.reply(1, 0), session.reply(1, 1)] as const;
  await state.publish(sessionId, raised, { generation: 1, replies, ends: [session.end("a")] });
  expect(await state.readMessage(message.id)).toMatchObject({ state: "answered" });
  await state.startDelivery(replies[0], false);
  await state.recordRefusal(replies[0]);
  expect(await state.startDelivery(replies[0], false)).toMatchObject({ started: true, attempts: 2 });
  expect(await state.markDelivered(replies[0], "platform-1")).toBe(true);
  expect(
    await state.buryReply({
      ...{ reply: replies[1], error: { code: "X", message: "x" }, attempts: 1, diedAt: 1 },
    }),
  ).toBe(true);
  expect(await state.releaseLease(sessionId, raised, { generation: 1, handBack: false })).toBe(true);
  expect(await state.inspect(sessionId)).toMatchObject({ waiting: 0, undelivered: 0, leasedBy: undefined });
});
