import { createLogger } from "@longshore/shared";
import { afterAll, beforeAll, expect, it } from "vitest";
import { TurnEvents } from "../../../apps/worker/src/turn-events.ts";
import { openRedisFixture, type RedisFixture, SessionFixture } from "../shared/redis-fixture.ts";

let redis: RedisFixture;
beforeAll(async () => {
  redis = await openRedisFixture();
});
afterAll(() => redis[Symbol.asyncDispose]());

const log = createLogger({ name: "test", level: "silent" });
const never = new AbortController().signal;

function begin() {
  const session = new SessionFixture(redis.client);
  const events = new TurnEvents({ state: session.state, sessionId: session.sessionId, turnId: "t", log });
  const read = async () =>
    (await session.state.readEvents(session.sessionId, "0", 1_000)).map(({ event }) => event);
  return { events, read };
}

it("says text and tool calls in their order: what comes after a silence at once, the rest gathered", async () => {
  const { events, read } = begin();
  events.text("one ");
  events.text("two ");
  events.text("three");
  events.tool("call", "a title", "pending");
  events.text("four");
  await events.flush(never);
  expect(await read()).toEqual([
    { type: "text", turnId: "t", text: "one " },
    { type: "text", turnId: "t", text: "two three" },
    { type: "tool", turnId: "t", toolCallId: "call", title: "a title", status: "pending" },
    { type: "text", turnId: "t", text: "four" },
  ]);
});

it("tells figures with what is said next, and by themselves where nothing is", async () => {
  const { events, read } = begin();
  const usage = (input: number) => ({ type: "usage", turnId: "t", tokens: { input } });
  events.usage({ tokens: { input: 1 } });
  events.text("said");
  await events.flush(never);
  expect(await read()).toEqual([usage(1), { type: "text", turnId: "t", text: "said" }]);
  events.usage({ tokens: { input: 2 } });
  await expect.poll(read).toContainEqual(usage(2));
});

it("bounds what an agent makes it say (I11)", async () => {
  const { events, read } = begin();
  const long = "x".repeat(1_000_000);
  events.plan(Array.from({ length: 1_000 }, () => ({ content: long, status: long })));
  for (let index = 0; index < 2_000; index++) events.tool(long, long, long);
  events.text(long);
  await events.flush(never);
  const written = await read();
  expect(written.length).toBeLessThanOrEqual(256);
  expect(JSON.stringify(written).length).toBeLessThan(1_000_000);
});

it("is not waited for once the turn is over for another reason, Redis being slow", async () => {
  const { events } = begin();
  const over = new AbortController();
  const control = redis.client.duplicate();
  await control.call("CLIENT", "PAUSE", "60000", "WRITE");
  try {
    events.text("never written in time");
    const flushed = events.flush(over.signal);
    over.abort();
    await flushed;
  } finally {
    await control.call("CLIENT", "UNPAUSE");
    control.disconnect();
  }
});
