import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { call, events, eventsUntil, message, until } from "./client.ts";
import { DispatcherStack, type Running } from "./dispatcher-stack.ts";
import { expectedSignature, WebhookReceiver } from "./webhook-receiver.ts";

const SECRET = "a secret of enough length";

let receiver: WebhookReceiver;
let stack: DispatcherStack;
let running: Running;

beforeAll(async () => {
  receiver = await WebhookReceiver.start();
  const hook = (path: string, giveUp: string) => ({
    ...{ type: "webhook", url: `${receiver.url}/${path}`, secret: SECRET, timeout: "500ms" },
    retry: { backoff: "20ms", longest: "50ms", giveUp },
  });
  stack = await DispatcherStack.start({
    channels: { hook: hook("hook", "1m"), short: hook("short", "200ms"), slow: hook("slow", "1m") },
  });
  running = await stack.dispatcher();
});
afterAll(async () => {
  await stack[Symbol.asyncDispose]();
  await receiver[Symbol.asyncDispose]();
});
beforeEach(() => {
  receiver.calls.length = 0;
  receiver.answer = (_call, response) => response.end();
});

/** Sends a message and answers it; gives its session. */
async function converse(
  channel: string,
  conversation: string,
  replies: readonly string[],
  more: { artifacts?: Record<string, string>; loseWake?: boolean } = {},
): Promise<string> {
  const id = `${channel} ${conversation} ${replies[0]}`;
  const { body } = await call(`${running.url}/v1/messages`, { body: message(id, { channel, conversation }) });
  await stack.worker.answer(body.sessionId, { replies, ...more });
  return body.sessionId;
}

const delivered = (sessionId: string) =>
  until(
    () => stack.worker.state.inspect(sessionId),
    ({ undelivered }) => undelivered === 0,
  );

it("posts replies, signed, under the reply's id", async () => {
  receiver.answer = (_call, response) => response.end(JSON.stringify({ id: "platform-1" }));
  const sessionId = await converse("hook", "signed", ["hello"], { artifacts: { "a.txt": "x" } });
  await delivered(sessionId);
  const [received] = receiver.calls;
  if (received === undefined) throw new Error("nothing was received");
  expect(received.headers["webhook-signature"]).toBe(expectedSignature(SECRET, received));
  expect(received.headers["idempotency-key"]).toBe(received.body.id);
  expect(received.headers["webhook-id"]).toBe(received.body.id);
  expect(received.body).toMatchObject({
    ...{ type: "reply", text: "hello", channel: "hook", conversation: "signed", sessionId },
    artifacts: [{ name: "a.txt", sizeBytes: 1 }],
  });
  const all = await eventsUntil(events(`${running.url}/v1/sessions/${sessionId}/events`), "reply.delivered");
  expect(all.at(-1)?.data).toMatchObject({ replyId: received.body.id, platformMessageId: "platform-1" });
});

it("tries again under the same key, and in order, until the receiver takes it (I6)", async () => {
  let refusals = 0;
  receiver.answer = ({ body }, response) => {
    if (body.text !== "one" || refusals >= 4) {
      response.end();
      return;
    }
    refusals += 1;
    // An error, no answer within the time, a cut connection, and a redirect: none of them is a delivery.
    if (refusals === 1) response.writeHead(500).end();
    else if (refusals === 3) response.destroy();
    else if (refusals === 4) response.writeHead(302, { location: `${receiver.url}/elsewhere` }).end();
  };
  const sessionId = await converse("hook", "again", ["one", "two", "three"]);
  await delivered(sessionId);
  expect(receiver.texts).toEqual(["one", "one", "one", "one", "one", "two", "three"]);
  expect(new Set(receiver.calls.map(({ headers }) => headers["idempotency-key"])).size).toBe(3);
});

it("lets a conversation that can't be delivered to delay no other one (I10)", async () => {
  const held: (() => void)[] = [];
  receiver.answer = ({ path }, response) => {
    if (path === "/slow") held.push(() => response.end());
    else response.end();
  };
  // More than one channel may have at once.
  const stuck = await Promise.all(
    Array.from({ length: 40 }, (_, index) => converse("slow", `stuck-${index}`, ["stuck"])),
  );
  const free = await converse("hook", "free", ["free"]);
  await delivered(free);
  expect(receiver.texts).toContain("free");
  expect((await stack.worker.state.inspect(stuck[0] as string)).undelivered).toBe(1);
  receiver.answer = (_call, response) => response.end();
  for (const release of held) release();
  await Promise.all(stuck.map(delivered));
});

it("makes what can't be delivered a dead reply, seen by its reason, and goes on with the next", async () => {
  receiver.answer = ({ body }, response) => response.writeHead(body.text === "poison" ? 400 : 200).end();
  const sessionId = await converse("short", "dead", ["poison", "after"]);
  await delivered(sessionId);
  expect(receiver.texts.at(-1)).toBe("after");
  expect(receiver.texts.filter((text) => text === "poison").length).toBeGreaterThan(1);
  const { body } = await call(`${running.url}/v1/sessions/${sessionId}`);
  expect(body.deadReplies).toMatchObject([
    { channel: "short", error: { code: "WEBHOOK_STATUS", message: expect.stringContaining("400") } },
  ]);
  await running.process.line(({ msg, sessionId: of }) => msg === "reply is dead" && of === sessionId);
  const metrics = await (await fetch(`${running.metricsUrl}/metrics`)).text();
  expect(metrics).toContain('longshore_deliveries_total{channel="short",outcome="dead"} 1');
});

it("delivers once although a second dispatcher has the same wakes", async () => {
  await stack.dispatcher();
  const sessions = await Promise.all(
    Array.from({ length: 20 }, (_, index) => converse("hook", `two-${index}`, ["a", "b"])),
  );
  await Promise.all(sessions.map(delivered));
  expect(receiver.calls.length).toBe(40);
});

it("goes on when a dispatcher is killed in the middle of a call: the same reply, the same key", async () => {
  const victim = await stack.dispatcher();
  // Only the victim may take the wake.
  running.process.signal("SIGSTOP");
  const others = stack.others(victim);
  for (const other of others) other.signal("SIGSTOP");
  const called = new Promise<void>((resolve) => {
    receiver.answer = () => resolve();
  });
  const { body } = await call(`${victim.url}/v1/messages`, {
    body: message("killed", { channel: "hook", conversation: "killed" }),
  });
  await stack.worker.answer(body.sessionId, { replies: ["survives"] });
  await called;
  await victim.process.kill();
  receiver.answer = (_call, response) => response.end();
  for (const other of others) other.signal("SIGCONT");
  await delivered(body.sessionId);
  expect(receiver.texts).toEqual(["survives", "survives"]);
  expect(new Set(receiver.calls.map(({ headers }) => headers["webhook-id"])).size).toBe(1);
});

it("brings lost wakes of delivery back", async () => {
  const sessionId = await converse("hook", "lost wake", ["found"], { loseWake: true });
  await delivered(sessionId);
  expect(receiver.texts).toEqual(["found"]);
});
