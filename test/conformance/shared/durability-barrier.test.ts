import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectRedis, DurabilityBarrier, messageKey, type RedisClient } from "@longshore/shared";
import { afterAll, beforeAll, expect, it } from "vitest";
import { freePorts } from "../../../infra/setup/free-port.ts";
import { type Redis, startRedisServer } from "../../../infra/setup/redis.ts";
import { waitUntil } from "../../../infra/setup/wait-until.ts";
import { SessionFixture } from "./redis-fixture.ts";

let primary: Redis;
let replica: Redis;
let client: RedisClient;
let blocking: RedisClient;
let barrier: DurabilityBarrier;
const cleanUp = new AsyncDisposableStack();

beforeAll(async () => {
  const directory = await mkdtemp(join(tmpdir(), "longshore-durability-"));
  cleanUp.defer(() => rm(directory, { recursive: true }));
  const [port = 0, replicaPort = 0] = await freePorts(2);
  primary = cleanUp.use(await startRedisServer({ port, directory: join(directory, "primary") }));
  replica = cleanUp.use(
    await startRedisServer({
      ...{ port: replicaPort, directory: join(directory, "replica") },
      settings: ["--replicaof", "127.0.0.1", String(port)],
    }),
  );
  const connect = () => {
    const redis = connectRedis(primary.url, { onError: () => undefined });
    cleanUp.defer(() => redis.disconnect());
    return redis;
  };
  client = connect();
  blocking = connect();
  await isFollowed();
  barrier = new DurabilityBarrier({ redis: blocking, ask: "WAIT" });
});
afterAll(() => cleanUp.disposeAsync());

const isFollowed = () =>
  waitUntil(async () => (await client.info("replication")).includes("state=online"), {
    ...{ what: "the replica to follow", timeoutMs: 30_000 },
  });

const acceptMany = async (session: SessionFixture, count: number) => {
  const names = Array.from({ length: count }, (_, index) => String(index));
  await Promise.all(names.map((name) => session.accept(name)));
  return names.map((name) => session.message(name).id);
};

it("confirms what a replica has, many at once", async () => {
  const session = new SessionFixture(client as never);
  const ids = await acceptMany(session, 50);
  await Promise.all(ids.map((id) => barrier.confirm(id)));
  const second = connectRedis(replica.url, { onError: () => undefined });
  expect(await second.exists(...ids.map(messageKey))).toBe(ids.length);
  second.disconnect();
  expect(await client.exists(...ids.map((id) => `${messageKey(id)}:barrier`))).toBeLessThan(ids.length);
});

it("refuses what no replica has in time, and confirms the same message once one has, also as a duplicate", async () => {
  const session = new SessionFixture(client as never);
  await replica.signal("SIGSTOP");
  const [id = ""] = await acceptMany(session, 1);
  await expect(barrier.confirm(id)).rejects.toMatchObject({ code: "NOT_DURABLE", retryable: true });
  // Another connection wrote it, and this one writes nothing of it any more: it is no more durable for that.
  expect((await session.accept("0")).duplicate).toBe(true);
  await expect(barrier.confirm(id)).rejects.toMatchObject({ code: "NOT_DURABLE" });
  await replica.signal("SIGCONT");
  await isFollowed();
  await barrier.confirm(id);
});

it("refuses what Redis has lost in the meantime, and confirms the others", async () => {
  const session = new SessionFixture(client as never);
  const [lost = "", kept = ""] = await acceptMany(session, 2);
  await client.del(messageKey(lost));
  const outcomes = await Promise.allSettled([lost, kept].map((id) => barrier.confirm(id)));
  expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "fulfilled"]);
});
