import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { longshore } from "../cli/longshore.ts";
import { call, message } from "./client.ts";
import { DispatcherStack, keys, type Running } from "./dispatcher-stack.ts";

let stack: DispatcherStack;
let running: Running;

beforeAll(async () => {
  stack = await DispatcherStack.start();
  running = await stack.dispatcher();
});
afterAll(() => stack[Symbol.asyncDispose]());

const api = async (path: string, options = {}) => (await call(`${running.url}/v1${path}`, options)).body;
const retry = (id: string) => api(`/dead-letters/${id}/retry`, { method: "POST" });
const deadIds = async () => (await api("/dead-letters")).deadLetters.map(({ id }: { id: string }) => id);
const sessionIds = async () =>
  (await api("/sessions")).sessions.map(({ sessionId }: { sessionId: string }) => sessionId);

async function die(conversation: string, id: string): Promise<{ messageId: string; sessionId: string }> {
  const sent = await api("/messages", { body: message(id, { conversation }) });
  await stack.worker.refuse(sent.sessionId, { code: "AGENT_CRASHED", message: "it crashed" });
  return sent;
}

/** `longshore doctor --repair`; what it says of the lists. */
async function repair(): Promise<{ status: string; detail: string }[]> {
  const { stdout } = await longshore(["--json", "doctor", "--repair"], {
    environment: {
      ...process.env,
      LONGSHORE_CONFIG: join(stack.directory, "longshore.yaml"),
      REDIS_URL: stack.redis.url,
      OBJECT_STORE_URL: stack.storeUrl,
      LONGSHORE_RUN_DIR: join(stack.directory, `run-${randomBytes(4).toString("hex")}`),
    },
  });
  return JSON.parse(stdout).filter(({ check }: { check: string }) => check === "lists");
}

it("lists again what the store knows: sessions, and dead letters that were neither retried nor dropped", async () => {
  const one = await die("one", "1");
  const dropped = await die("one", "2");
  await api(`/dead-letters/${dropped.messageId}`, { method: "DELETE" });
  const retried = await die("two", "1");
  const again = await retry(retried.messageId);
  await stack.worker.refuse(again.sessionId, { code: "AGENT_CRASHED", message: "it crashed again" });
  const waiting = await die("three", "1");
  await retry(waiting.messageId);
  const answered = await die("four", "1");
  await stack.worker.answer((await retry(answered.messageId)).sessionId, { replies: ["done"] });
  const before = { dead: await deadIds(), sessions: await sessionIds() };
  expect(before.dead).toEqual([again.messageId, one.messageId]);
  expect(before.sessions).toHaveLength(4);

  const { redis } = stack.worker;
  await redis.del(
    "longshore:{tenant:acme}:sessions",
    "longshore:{tenant:acme}:deadLetters",
    "longshore:{tenant:acme}:deadLetters:summaries",
  );
  expect(await repair()).toEqual([
    { check: "lists", status: "ok", detail: "4 sessions, 2 dead letters and 0 dead replies are listed" },
  ]);
  expect(await deadIds()).toEqual(before.dead);
  expect((await sessionIds()).toSorted()).toEqual(before.sessions.toSorted());

  // Also where it is not known any more that they were retried: the commits and the mailbox say so.
  for (const { messageId } of [retried, waiting, answered])
    await redis.del(`longshore:{tenant:acme}:deadLetters:${messageId}`);
  await repair();
  expect(await deadIds()).toEqual(before.dead);
  expect((await call(`${running.url}/v1/dead-letters`, { key: keys.other })).body.deadLetters).toEqual([]);
});
