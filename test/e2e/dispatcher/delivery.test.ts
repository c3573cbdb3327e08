import type { ServerResponse } from "node:http";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { freePorts } from "../../../infra/setup/free-port.ts";
import { call, events, eventsUntil, message, until } from "./client.ts";
import { DispatcherStack, type Running } from "./dispatcher-stack.ts";
import { expectedSignature, WebhookReceiver } from "./webhook-receiver.ts";

const SECRET = "a secret of enough length";
const PUBLIC_URL = "https://longshore.example/base";

let receiver: WebhookReceiver;
let stack: DispatcherStack;
let running: Running;

beforeAll(async () => {
  receiver = await WebhookReceiver.start();
  const hook = (path: string, giveUp: string, more: object = {}) => ({
    ...{ type: "webhook", url: `${receiver.url}/${path}`, secret: SECRET, timeout: "500ms" },
    retry: { backoff: "20ms", longest: "50ms", giveUp },
    ...more,
  });
  const nobody = { url: `http://127.0.0.1:${(await freePorts(1))[0]}/` };
  stack = await DispatcherStack.start({
    channels: {
      hook: hook("hook", "1m"),
      short: hook("short", "200ms"),
      slow: hook("slow", "1m"),
      hold: hook("hold", "1m", { unknownOutcome: "hold" }),
      down: hook("", "200ms", { ...nobody, unknownOutcome: "hold" }),
    },
  });
  running = await stack.dispatcher({ LONGSHORE_PUBLIC_URL: `${PUBLIC_URL}/` });
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

async function deadReplies(sessionId: string) {
  return (await call(`${running.url}/v1/sessions/${sessionId}`)).body.deadReplies;
}

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
  const [artifact] = received.body.artifacts;
  expect(artifact.url).toBe(`${PUBLIC_URL}${artifact.path}`);
  expect(Date.parse(artifact.expiresAt)).toBeGreaterThan(Date.now());
  const file = await fetch(`${running.url}${artifact.path}`);
  expect([file.status, await file.text()]).toEqual([200, "x"]);
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

it("waits as long as the receiver asks for, and gives up at once what is gone for ever", async () => {
  const asked: number[] = [];
  receiver.answer = ({ body }, response) => {
    if (body.text === "gone") response.writeHead(410).end();
    else if (asked.push(Date.now()) === 1) response.writeHead(429, { "retry-after": "1" }).end();
    else if (asked.length === 2)
      response.writeHead(503, { "retry-after": new Date(Date.now() + 2_000).toUTCString() }).end();
    else response.end();
  };
  const sessionId = await converse("hook", "asked", ["gone", "later"]);
  await delivered(sessionId);
  expect(receiver.texts).toEqual(["gone", "later", "later", "later"]);
  // Not earlier than asked; dates are in whole seconds.
  expect((asked[1] as number) - (asked[0] as number)).toBeGreaterThanOrEqual(1_000);
  expect((asked[2] as number) - (asked[1] as number)).toBeGreaterThanOrEqual(1_000);
  expect(await deadReplies(sessionId)).toMatchObject([{ error: { code: "WEBHOOK_GONE" }, attempts: 1 }]);
});

it("holds what may have been taken, where the channel says so, and tries again what was not", async () => {
  const answers: Readonly<Record<string, (response: ServerResponse) => void>> = {
    late: () => {},
    cut: (response) => response.destroy(),
    gateway: (response) => response.writeHead(504).end(),
  };
  let refusals = 0;
  receiver.answer = ({ body }, response) => {
    const answer = answers[body.text as string];
    if (answer !== undefined) answer(response);
    else if (body.text === "refused" && ++refusals < 3) response.writeHead(500).end();
    else response.end();
  };
  const [first, other, down] = await Promise.all([
    converse("hold", "held", ["late", "cut", "gateway", "refused", "after"]),
    converse("hold", "not held", ["fine"]),
    converse("down", "never sent", ["nobody listens"]),
  ]);
  await Promise.all([first, other, down].map((sessionId) => delivered(sessionId as string)));
  const held = receiver.calls.filter(({ body }) => body.conversation === "held").map(({ body }) => body.text);
  expect(held).toEqual(["late", "cut", "gateway", "refused", "refused", "refused", "after"]);
  expect(await deadReplies(first)).toMatchObject(
    ["did not answer", "UND_ERR_SOCKET", "504"].map((reason) => ({
      error: { code: "OUTCOME_UNKNOWN", message: expect.stringContaining(reason) },
      attempts: 1,
    })),
  );
  expect(await deadReplies(other)).toEqual([]);
  // It can't have been taken: it was tried until the time to give up.
  const [never] = await deadReplies(down);
  expect(never).toMatchObject({ error: { code: "WEBHOOK_UNREACHABLE" } });
  expect(never.attempts).toBeGreaterThan(1);
});

it("makes what can't be delivered a dead reply, seen by its reason, and goes on with the next", async () => {
  receiver.answer = ({ body }, response) => response.writeHead(body.text === "poison" ? 400 : 200).end();
  const sessionId = await converse("short", "dead", ["poison", "after"]);
  await delivered(sessionId);
  expect(receiver.texts.at(-1)).toBe("after");
  expect(receiver.texts.filter((text) => text === "poison").length).toBeGreaterThan(1);
  expect(await deadReplies(sessionId)).toMatchObject([
    { channel: "short", error: { code: "WEBHOOK_STATUS", message: expect.stringContaining("400") } },
  ]);
  await running.process.line(({ msg, sessionId: of }) => msg === "reply is dead" && of === sessionId);
  const metrics = await (await fetch(`${running.metricsUrl}/metrics`)).text();
  expect(metrics).toContain('longshore_deliveries_total{channel="short",outcome="dead"} 1');
});

it("delivers once although a second dispatcher has the same wakes", async () => {
  const both = [running, await stack.dispatcher()];
  const count = async (outcome: string) => {
    const pages = await Promise.all(
      both.map(async ({ metricsUrl }) => (await fetch(`${metricsUrl}/metrics`)).text()),
    );
    const line = new RegExp(`longshore_deliveries_total\\{channel="hook",outcome="${outcome}"\\} (\\d+)`);
    return pages.reduce((total, page) => total + Number(line.exec(page)?.[1] ?? 0), 0);
  };
  const before = { delivered: await count("delivered"), failed: await count("failed") };
  const conversations = Array.from({ length: 20 }, (_, index) => `two-${index}`);
  const sessions = await Promise.all(conversations.map((name) => converse("hook", name, ["a", "b"])));
  await Promise.all(sessions.map(delivered));
  await until(
    () => count("delivered"),
    (total) => total >= before.delivered + 40,
  );
  expect(await count("delivered")).toBe(before.delivered + 40);
  // A busy machine may answer too late: then, and only then, there is another call, under the same key.
  expect(receiver.calls.length).toBe(40 + (await count("failed")) - before.failed);
  expect(new Set(receiver.calls.map(({ headers }) => headers["idempotency-key"])).size).toBe(40);
  for (const name of conversations) {
    const texts = receiver.calls
      .filter(({ body }) => body.conversation === name)
      .map(({ body }) => body.text);
    expect(texts.toSorted()).toEqual(texts);
  }
});

it("goes on when a dispatcher is killed in the middle of a call: the same reply, the same key, or held", async () => {
  const victim = await stack.dispatcher();
  // Only the victim may take the wakes.
  running.process.signal("SIGSTOP");
  const others = stack.others(victim);
  for (const other of others) other.signal("SIGSTOP");
  const called = new Promise<void>((resolve) => {
    receiver.answer = () => receiver.calls.length === 2 && resolve();
  });
  const [again, held] = await Promise.all(
    ["hook", "hold"].map(async (channel) => {
      const id = `killed ${channel}`;
      const { body } = await call(`${victim.url}/v1/messages`, {
        body: message(id, { channel, conversation: id }),
      });
      await stack.worker.answer(body.sessionId, { replies: [channel] });
      return body.sessionId as string;
    }),
  );
  await called;
  await victim.process.kill();
  receiver.answer = (_call, response) => response.end();
  for (const other of others) other.signal("SIGCONT");
  await Promise.all([again, held].map((sessionId) => delivered(sessionId as string)));
  expect(receiver.texts.toSorted()).toEqual(["hold", "hook", "hook"]);
  expect(new Set(receiver.calls.map(({ headers }) => headers["webhook-id"])).size).toBe(2);
  expect(await deadReplies(held as string)).toMatchObject([
    { error: { code: "OUTCOME_UNKNOWN" }, attempts: 1 },
  ]);
});

it("brings lost wakes of delivery back", async () => {
  const sessionId = await converse("hook", "lost wake", ["found"], { loseWake: true });
  await delivered(sessionId);
  expect(receiver.texts).toEqual(["found"]);
});
