import { type AcceptedMessage, DeadLetters, deriveMessageId, deriveSessionId } from "@longshore/shared";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { longshore } from "../cli/longshore.ts";
import { type Answer, call, message, until } from "./client.ts";
import { DispatcherStack, keys, type Running } from "./dispatcher-stack.ts";
import { WebhookReceiver } from "./webhook-receiver.ts";

let receiver: WebhookReceiver;
let stack: DispatcherStack;
let running: Running;

beforeAll(async () => {
  receiver = await WebhookReceiver.start();
  const hook = {
    ...{ type: "webhook", url: `${receiver.url}/hook`, secret: "a secret of enough length" },
    retry: { backoff: "10ms", longest: "20ms", giveUp: "100ms" },
  };
  stack = await DispatcherStack.start({ channels: { hook } });
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

const api = (path: string, options = {}) => call(`${running.url}/v1${path}`, options);
const send = (id: string, more = {}) => api("/messages", { body: message(id, more) });
const list = async (query = "") => (await api(`/dead-letters${query}`)).body.deadLetters;
const listed = async (id: string) => (await list()).find((letter: { id: string }) => letter.id === id);
const retry = (id: string, options = {}) => api(`/dead-letters/${id}/retry`, { method: "POST", ...options });
const drop = (id: string, options = {}) => api(`/dead-letters/${id}`, { method: "DELETE", ...options });

/** Sends a message and gives it up. */
async function die(id: string, more = {}): Promise<{ messageId: string; sessionId: string }> {
  const { body } = await send(id, more);
  await stack.worker.refuse(body.sessionId, { code: "AGENT_CRASHED", message: "it crashed" });
  return body;
}

describe("a dead message", () => {
  it("is listed, and retried as one new message with all it had, however often it is asked for at once", async () => {
    const attachments = [{ name: "a.txt", data: Buffer.from("hi").toString("base64") }];
    const { messageId, sessionId } = await die("1", {
      ...{ conversation: "retried", text: "do it", thread: "t", attachments, metadata: { a: 1 } },
    });
    expect(await listed(messageId)).toEqual({
      ...{ id: messageId, kind: "message", sessionId, agent: "helper", channel: "http" },
      ...{ conversation: "retried", thread: "t", sender: "ada", excerpt: "do it", generation: 1 },
      ...{ error: { code: "AGENT_CRASHED", message: "it crashed" }, diedAt: expect.any(String) },
    });

    const answers: Answer[] = await Promise.all([retry(messageId), retry(messageId), retry(messageId)]);
    expect(answers.map(({ status }) => status)).toEqual([202, 202, 202]);
    const ids = new Set(answers.map(({ body }) => body.messageId));
    expect(ids.size).toBe(1);
    expect(answers.filter(({ body }) => !body.duplicate)).toHaveLength(1);
    expect(await listed(messageId)).toBeUndefined();
    const [again] = [...ids];
    expect(again).not.toBe(messageId);
    const waiting = await stack.worker.state.readMailbox(sessionId, 10);
    expect(waiting).toMatchObject([
      {
        ...{ id: again, text: "do it", thread: "t", sender: { id: "ada" }, metadata: { a: 1 } },
        attachments: [{ name: "a.txt", sizeBytes: 2 }],
        retryOf: { messageId, count: 1 },
      },
    ]);

    // It dies again: another dead letter, of the same line.
    await stack.worker.refuse(sessionId, { code: "AGENT_CRASHED", message: "it crashed again" });
    const second = (await retry(again)).body.messageId;
    expect([messageId, again]).not.toContain(second);
    await stack.worker.answer(sessionId, { replies: ["done"] });
    expect((await api(`/messages/${second}`)).body).toMatchObject({ state: "answered" });
    expect((await retry(messageId)).body).toMatchObject({ messageId: again, duplicate: true });
    expect(await stack.worker.state.readMailbox(sessionId, 10)).toEqual([]);
  });

  it("keeps its attachments for the retry also where they were stored long ago", async () => {
    const attachments = [{ name: "a", data: Buffer.from("old").toString("base64") }];
    const { messageId, sessionId } = await die("1", { conversation: "old", attachments });
    const ref = { tenant: "acme", sessionId };
    // As garbage collection leaves it when the attachment is too old.
    const inbound = await stack.inboundFiles(ref);
    expect(inbound).toHaveLength(1);
    await stack.age(inbound[0] as string, 20 * 24 * 3_600_000);
    expect((await retry(messageId)).status).toBe(202);
    expect(await stack.inboundFiles(ref)).toHaveLength(2);
    const [waiting] = await stack.worker.state.readMailbox(sessionId, 1);
    const hashes = waiting?.attachments.map(({ sha256 }) => sha256) ?? [];
    expect(hashes).toHaveLength(1);
    expect([...(await stack.worker.store.findInbound(ref, hashes))]).toEqual(hashes);
  });

  it("is dropped for good", async () => {
    const { messageId, sessionId } = await die("1", { conversation: "dropped" });
    expect((await drop(messageId)).status).toBe(204);
    expect(await listed(messageId)).toBeUndefined();
    for (const answer of [await drop(messageId), await retry(messageId)]) {
      expect(answer.status).toBe(404);
      expect(answer.body.code).toBe("DEAD_LETTER_NOT_FOUND");
    }
    // Published again, as by an activation that finishes what another began.
    const lists = new DeadLetters(stack.worker.redis);
    const summary = { kind: "message", sessionId, channel: "http", conversation: "dropped" } as const;
    const error = { code: "AGENT_CRASHED", message: "" };
    expect(await lists.list("acme", messageId, { ...summary, excerpt: "", error, generation: 1 })).toBe(
      false,
    );
  });

  it("says by code why it can't be tried again", async () => {
    const sessionId = deriveSessionId("shared", {
      ...{ tenant: "acme", agent: "gone", channel: "http", conversation: "c" },
    });
    const of = (agent: string): AcceptedMessage => ({
      ...{ id: deriveMessageId(sessionId, agent), tenant: "acme", sessionId, agent, channel: "http" },
      ...{ conversation: "c", sender: { id: "ada" }, text: "", attachments: [], kind: "chat" },
      acceptedAt: new Date().toISOString(),
    });
    await stack.worker.state.accept(of("gone"), 10);
    await stack.worker.refuse(sessionId, { code: "UNKNOWN_AGENT", message: "" });
    expect((await retry(of("gone").id)).body).toMatchObject({ status: 422, code: "UNKNOWN_AGENT" });
    expect(await listed(of("gone").id)).toBeDefined();

    const lost = of("lost").id;
    const summary = { kind: "message", sessionId, channel: "http", conversation: "c" } as const;
    const error = { code: "AGENT_CRASHED", message: "" };
    const lists = new DeadLetters(stack.worker.redis);
    await lists.list("acme", lost, { ...summary, excerpt: "", error, generation: 99 });
    expect((await retry(lost)).body).toMatchObject({ status: 410, code: "DEAD_LETTER_GONE" });
    await drop(lost);
  });

  it("is nobody else's, and needs a key that may operate", async () => {
    const { messageId } = await die("1", { conversation: "foreign" });
    expect((await api("/dead-letters", { key: keys.other })).body.deadLetters).toEqual([]);
    for (const act of [retry, drop]) {
      expect((await act(messageId, { key: keys.other })).status).toBe(404);
      expect((await act(messageId, { key: keys.reader })).status).toBe(403);
      expect((await act(messageId, { key: keys.sender })).status).toBe(403);
    }
    expect((await api("/dead-letters", { key: keys.sender })).status).toBe(403);
    expect((await drop(messageId)).status).toBe(204);
  });
});

it("brings a dead reply back to its place, and delivers it", async () => {
  receiver.answer = (_call, response) => response.writeHead(500).end();
  const { body } = await send("1", { channel: "hook", conversation: "h" });
  const { sessionId } = body;
  await stack.worker.answer(sessionId, {
    replies: ["one", "two"],
    to: { channel: "hook", conversation: "h" },
  });
  const letters = await until(
    async () => (await list()).filter((letter: { sessionId: string }) => letter.sessionId === sessionId),
    (found) => found.length === 2,
  );
  expect(letters.map(({ kind, excerpt }: { kind: string; excerpt: string }) => [kind, excerpt])).toEqual([
    ["reply", "two"],
    ["reply", "one"],
  ]);
  const [two, one] = letters;
  receiver.calls.length = 0;
  receiver.answer = (_call, response) => response.end();
  expect((await retry(one.id)).body).toMatchObject({ kind: "reply", sessionId, duplicate: false });
  await until(
    () => stack.worker.state.inspect(sessionId),
    ({ undelivered }) => undelivered === 0,
  );
  expect(receiver.calls.map((received) => received.body.text)).toEqual(["one"]);
  expect((await retry(one.id)).body.code).toBe("DEAD_LETTER_NOT_FOUND");
  expect((await stack.worker.state.readDeadReplies(sessionId)).map(({ reply }) => reply.text)).toEqual([
    "two",
  ]);
  expect((await drop(two.id)).status).toBe(204);
  expect(await stack.worker.state.readDeadReplies(sessionId)).toEqual([]);
  expect((await list()).filter((letter: { sessionId: string }) => letter.sessionId === sessionId)).toEqual(
    [],
  );
});

it("is paged, and served by the command line", async () => {
  const ids: string[] = [];
  for (const id of ["1", "2", "3"]) ids.push((await die(id, { conversation: "cli" })).messageId);
  const first = (await api("/dead-letters?limit=2")).body;
  const second = (await api(`/dead-letters?limit=100&cursor=${first.cursor}`)).body;
  const all = [...first.deadLetters, ...second.deadLetters].map(({ id }: { id: string }) => id);
  expect(all.filter((id) => ids.includes(id))).toEqual([...ids].reverse());
  expect((await api("/dead-letters?cursor=x")).body).toMatchObject({ status: 400, code: "INVALID_REQUEST" });

  const environment = { ...process.env, LONGSHORE_URL: running.url, LONGSHORE_KEY: keys.acme };
  const cli = (...args: string[]) => longshore(args, { environment });
  const [one, two, three] = ids as [string, string, string];
  expect((await cli("dead", "ls")).stdout).toContain(`${one}  message`);
  expect(JSON.parse((await cli("--json", "dead", "retry", one, two)).stdout)).toMatchObject([
    { id: one, kind: "message", duplicate: false },
    { id: two, kind: "message", duplicate: false },
  ]);
  expect((await cli("dead", "drop", three)).stdout).toBe(`${three} is dropped\n`);
  expect(await cli("--json", "dead", "drop", three)).toMatchObject({ status: 1, stdout: "" });
  const rest = JSON.parse((await cli("--json", "dead", "ls")).stdout).map(({ id }: { id: string }) => id);
  expect(rest.filter((id: string) => ids.includes(id))).toEqual([]);
});
