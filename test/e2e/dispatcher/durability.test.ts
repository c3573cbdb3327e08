import { afterEach, expect, it } from "vitest";
import { call, message, until } from "./client.ts";
import { DispatcherStack } from "./dispatcher-stack.ts";

let stack: DispatcherStack;
afterEach(() => stack[Symbol.asyncDispose]());

it("refuses with 503 what no replica has, says so, and forgets nothing: sent again, it is the same message", async () => {
  stack = await DispatcherStack.start({ durability: "replica" });
  const { url, metricsUrl, process } = await stack.dispatcher();
  await process.line(({ shortcomings }) => String(shortcomings).includes("no replica is connected"));
  const ready = await fetch(`${metricsUrl}/readyz`);
  expect([ready.status, await ready.text()]).toEqual([503, expect.stringContaining("no replica")]);
  for (let time = 0; time < 2; time++) {
    const refused = await call(`${url}/v1/messages`, { body: message("1") });
    expect(refused).toMatchObject({ status: 503, body: { code: "NOT_DURABLE" } });
    expect(refused.headers.get("retry-after")).not.toBeNull();
  }
});

it("does not start where Redis can't flush each write, and that is wanted", async () => {
  stack = await DispatcherStack.start({ durability: "fsync" });
  const refused = stack.launch();
  expect(await refused.exited).toBe(1);
  expect(refused.stderr).toContain('Redis can\'t give the durability "fsync"');
  await stack.worker.redis.config("SET", "appendfsync", "always");
  const { url } = await stack.dispatcher();
  expect(await call(`${url}/v1/messages`, { body: message("1") })).toMatchObject({ status: 202 });
});

it("answers 503 while Redis is full, and goes on by itself when there is room", async () => {
  stack = await DispatcherStack.start();
  const { url } = await stack.dispatcher();
  const { body } = await call(`${url}/v1/messages`, { body: message("1") });
  await stack.worker.redis.config("SET", "maxmemory", "1");
  expect(await call(`${url}/v1/messages`, { body: message("2") })).toMatchObject({
    ...{ status: 503, body: { code: "REDIS_FULL" } },
  });
  await stack.worker.answer(body.sessionId, { replies: ["while full"], loseWake: true });
  await stack.worker.redis.config("SET", "maxmemory", "0");
  expect(await call(`${url}/v1/messages`, { body: message("2") })).toMatchObject({ status: 202 });
  await until(
    () => stack.worker.state.inspect(body.sessionId),
    ({ undelivered }) => undelivered === 0,
  );
});
