import { join } from "node:path";
import { QUEUE_PREFIX } from "@longshore/shared";
import { Redis as RedisClient } from "ioredis";
import { afterEach, expect, it } from "vitest";
import type { Redis } from "../../../infra/setup/redis.ts";
import {
  type RedisGroup,
  startRedisCluster,
  startRedisSentinels,
} from "../../../infra/setup/redis-groups.ts";
import type { Api, ApiMessage } from "../../support/api.ts";
import { Fleet } from "../../support/fleet.ts";
import { insist } from "../../support/insist.ts";

const COUNT = "$ n=$(($(cat counter 2>/dev/null || echo 0) + 1)); echo $n > counter; echo turn $n";
const CONVERSATIONS = 4;
const MESSAGES = 4;
const SLOTS = 16_384;

let cleanUp: AsyncDisposableStack;
afterEach(() => cleanUp.disposeAsync());

/** A fleet on a group of servers; its own single Redis has nothing to do. */
async function startFleet(
  start: (options: { directory: string }) => Promise<RedisGroup>,
): Promise<{ group: RedisGroup; api: Api }> {
  cleanUp = new AsyncDisposableStack();
  const fleet = cleanUp.use(await Fleet.start());
  const group = cleanUp.use(await start({ directory: join(fleet.directory, "redis-group") }));
  // Ends before the servers do, so that it ends in order.
  cleanUp.defer(async () => {
    await Promise.all(fleet.processes.map((process) => process.stop()));
  });
  const environment = { REDIS_URL: group.url };
  const [{ api }] = await Promise.all([
    fleet.startDispatcher(environment),
    fleet.startWorker(environment),
    fleet.startWorker(environment),
  ]);
  return { group, api };
}

/** The primary on which the queues are: all sessions need it, beside their own. */
async function holderOfQueues(primaries: readonly Redis[]): Promise<number> {
  const client = new RedisClient((primaries[0] as Redis).url);
  try {
    const slot = primaries.length === 1 ? 0 : await client.cluster("KEYSLOT", QUEUE_PREFIX);
    return Math.floor((slot / SLOTS) * primaries.length);
  } finally {
    client.disconnect();
  }
}

it.each([
  ["a cluster", startRedisCluster],
  ["sentinels", startRedisSentinels],
])("%s: a primary dies under traffic, and everything goes on by itself", async (_, start) => {
  const { group, api } = await startFleet(start);
  const answered = Promise.withResolvers<void>();
  const sending = Array.from({ length: CONVERSATIONS }, async (_, index) => {
    const sent: ApiMessage[] = [];
    for (let at = 1; at <= MESSAGES; at++) {
      sent.push(await insist(() => api.send(`c${index}`, String(at), COUNT)));
      if (at === 2) {
        await insist(() => api.ask(`c${index}`, "1", "known already"));
        answered.resolve();
      }
    }
    return sent;
  });
  await answered.promise;
  const primaries = group.servers.slice(0, group.servers.length / 2);
  await primaries[await holderOfQueues(primaries)]?.kill();
  for (const [index, messages] of (await Promise.all(sending)).entries()) {
    // What only the dead primary knew is lost: a client that asks again with the same id brings it back.
    for (const at of messages.keys()) {
      const ended = await insist(() => api.ask(`c${index}`, String(at + 1), COUNT));
      expect(ended).toMatchObject({ state: "answered", messageId: messages[at]?.messageId });
    }
    const { sessionId } = messages[0] as ApiMessage;
    expect(await api.file(sessionId, "workspace/counter")).toBe(`${MESSAGES}\n`);
  }
});
