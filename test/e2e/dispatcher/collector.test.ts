import { afterEach, beforeEach, expect, it } from "vitest";
import { call, message } from "./client.ts";
import { DispatcherStack } from "./dispatcher-stack.ts";

let stack: DispatcherStack;

beforeEach(async () => {
  stack = await DispatcherStack.start();
});
afterEach(() => stack[Symbol.asyncDispose]());

const collected = ({ msg }: { msg: string }) => msg === "garbage collected";

it("collects the garbage of all sessions, once a period, on one of the dispatchers", async () => {
  const first = await stack.dispatcher();
  await first.process.line(collected);
  const { body } = await call(`${first.url}/v1/messages`, { body: message("1") });
  await stack.worker.answer(body.sessionId, { files: { "workspace/a": "x" } });
  // The period is over: one that starts then does it, and the other sees that it is done.
  await stack.worker.redis.del("longshore:{fleet}:collected");
  const second = await stack.dispatcher();
  expect(await second.process.line(collected)).toMatchObject({ sessions: 1, failed: 0, objects: 0 });
  const ttl = await stack.worker.redis.pttl("longshore:{fleet}:collected");
  expect(ttl).toBeGreaterThan(23 * 3_600_000);
  expect(await stack.worker.redis.exists("longshore:{fleet}:collecting")).toBe(0);
  expect(first.process.lines.filter(collected)).toHaveLength(1);
  const metrics = await (await fetch(`${second.metricsUrl}/metrics`)).text();
  expect(metrics).toContain('longshore_collections_total{outcome="collected"} 1');
});

it("leaves it to the one that is at it", async () => {
  await stack.worker.redis.set("longshore:{fleet}:collecting", "another", "PX", 60_000);
  const { process } = await stack.dispatcher();
  await process.line(({ msg }) => msg === "another dispatcher collects garbage");
  expect(process.lines.filter(collected)).toEqual([]);
  expect(await stack.worker.redis.get("longshore:{fleet}:collecting")).toBe("another");
  expect(await stack.worker.redis.exists("longshore:{fleet}:collected")).toBe(0);
});
