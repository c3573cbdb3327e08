import {
  connectRedis,
  eventsChannel,
  type SessionEvent,
  type SessionState,
  sessionKeys,
} from "@longshore/shared";
import { pino } from "pino";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { EventHub } from "../../../apps/dispatcher/src/event-hub.ts";
import { type FollowedEvent, followEvents } from "../../../apps/dispatcher/src/follow-events.ts";
import { openRedisFixture, type RedisFixture, SessionFixture } from "./redis-fixture.ts";

let redis: RedisFixture;
let session: SessionFixture;
let stop: AbortController;
let readsNothing: boolean;
let events: AsyncGenerator<FollowedEvent | undefined, void>;

beforeAll(async () => {
  redis = await openRedisFixture();
});
afterAll(() => redis[Symbol.asyncDispose]());
beforeEach(async () => {
  session = new SessionFixture(redis.client);
  stop = new AbortController();
  const subscriber = connectRedis(redis.server.url, { onError: () => undefined });
  const hub = new EventHub(subscriber, pino({ enabled: false }));
  const { sessionId } = session;
  readsNothing = false;
  const state = {
    readEvents: async (...asked: Parameters<SessionState["readEvents"]>) =>
      readsNothing ? [] : await session.state.readEvents(...asked),
  };
  events = followEvents({ state, hub, sessionId, after: "0", signal: stop.signal });
  return async () => {
    stop.abort();
    await events.return();
    subscriber.disconnect();
  };
});

const text = (said: string): SessionEvent => ({ type: "text", turnId: "t", text: said });
const add = (...said: string[]) => session.state.addEvents(session.sessionId, said.map(text));
const listeners = async () => (await redis.client.pubsub("NUMSUB", eventsChannel(session.sessionId)))[1];

/** What comes next, as soon as there is something. */
async function next(): Promise<string> {
  for (;;) {
    const { value, done } = await events.next();
    if (done) throw new Error("the events ended");
    if (value?.event.type === "text") return value.event.text;
  }
}

it("gives what is told without a read, and in its order what others said meanwhile", async () => {
  await add("kept");
  expect(await next()).toBe("kept");
  const waits = next();
  await expect.poll(listeners).toBe(1);
  readsNothing = true;
  await add("told", "with it");
  expect(await waits).toBe("told");
  expect(await next()).toBe("with it");
  readsNothing = false;
  // Said by something that tells only that there is more: what comes after it is not given before it.
  const third = next();
  await redis.client.xadd(sessionKeys(session.sessionId).events, "*", "e", JSON.stringify(text("untold")));
  await add("after it");
  expect([await third, await next()]).toEqual(["untold", "after it"]);
});
