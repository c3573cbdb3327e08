import { EndedRecords, fleetKeys, messageKey } from "@longshore/shared";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { openRedisFixture, type RedisFixture, SessionFixture } from "./redis-fixture.ts";

let redis: RedisFixture;
let records: EndedRecords;

beforeAll(async () => {
  redis = await openRedisFixture();
});
afterAll(() => redis[Symbol.asyncDispose]());
beforeEach(async () => {
  await redis.client.flushall();
  records = new EndedRecords(redis.client, 60_000);
});

/** A session whose messages were answered, one after another; gives their ids. */
async function answered(...senderIds: string[]): Promise<{ session: SessionFixture; ids: string[] }> {
  const session = new SessionFixture(redis.client);
  const lease = await session.lease();
  const ids: string[] = [];
  for (const [index, senderId] of senderIds.entries()) {
    await session.accept(senderId);
    const end = session.end(senderId);
    await session.state.publish(session.sessionId, lease, {
      generation: index + 1,
      replies: [],
      ends: [end],
    });
    ids.push(end.message.id);
  }
  return { session, ids };
}

const known = async (ids: readonly string[]) => {
  const found = await Promise.all(ids.map((id) => redis.client.exists(messageKey(id))));
  return ids.filter((_, index) => found[index] === 1);
};

it("of ended messages the newest are kept, over all sessions", async () => {
  const first = await answered("a", "b");
  const second = await answered("c");
  const ids = [...first.ids, ...second.ids];
  expect(await records.trim(3)).toBe(0);
  expect(await known(ids)).toEqual(ids);
  expect(await records.trim(1)).toBe(2);
  expect(await known(ids)).toEqual(second.ids);
  expect(await records.trim(1)).toBe(0);
});

it("are not removed twice as many where two remove at once", async () => {
  const { ids } = await answered("a", "b", "c", "d", "e");
  const removed = await Promise.all([records.trim(2), records.trim(2)]);
  expect(removed.reduce((sum, count) => sum + count)).toBe(3);
  expect(await known(ids)).toEqual(ids.slice(3));
});

it("that of a message that was accepted anew since is not removed", async () => {
  const { session, ids } = await answered("a");
  await redis.client.del(messageKey(ids[0] as string));
  await session.accept("a");
  expect(await records.trim(0)).toBe(0);
  expect(await session.state.readMessage(ids[0] as string)).toMatchObject({ state: "accepted" });
});

it("the list of them goes with the last", async () => {
  await answered("a");
  const ttlMs = await redis.client.pttl(fleetKeys.ended);
  expect(ttlMs).toBeGreaterThan(0);
  expect(ttlMs).toBeLessThanOrEqual(60_000);
});
