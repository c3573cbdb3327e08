import { deriveMessageId, deriveSessionId, QUEUE_PREFIX, queueNames } from "@longshore/shared";
import { type Job, Queue } from "bullmq";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { longshore } from "../cli/longshore.ts";
import { call, events, eventsUntil, message, until } from "./client.ts";
import { DispatcherStack, keys, type Running } from "./dispatcher-stack.ts";

let stack: DispatcherStack;
let running: Running;
let other: Running;
let inbound: Queue;

beforeAll(async () => {
  stack = await DispatcherStack.start({ mailbox: 2 });
  running = await stack.dispatcher();
  other = await stack.dispatcher();
  inbound = new Queue(queueNames.inbound, { connection: stack.worker.redis, prefix: QUEUE_PREFIX });
});
afterAll(async () => {
  await inbound.close();
  await stack[Symbol.asyncDispose]();
});

const HOUR_MS = 3_600_000;
const inMs = (ms: number) => new Date(Date.now() + ms).toISOString();
const send = (id: string, more = {}, url = running.url) =>
  call(`${url}/v1/messages`, { body: message(id, more) });
const read = (messageId: string, options = {}) => call(`${running.url}/v1/messages/${messageId}`, options);
const cancel = (messageId: string, options = {}) => read(messageId, { method: "DELETE", ...options });
const mailbox = (sessionId: string) => stack.worker.state.readMailbox(sessionId, 10);
const session = (conversation: string) =>
  deriveSessionId("shared", { tenant: "acme", agent: "helper", channel: "http", conversation });
const job = async (messageId: string) => (await inbound.getJob(`waiting-${messageId}`)) as Job | undefined;

describe("a message with a time before which it must not be answered", () => {
  it("waits once, however often and wherever it is sent, and is accepted when its time has come", async () => {
    const content = Buffer.from("the content of the attachment").toString("base64");
    const more = {
      ...{ conversation: "waits", text: "later", notBefore: inMs(HOUR_MS) },
      attachments: [{ name: "a.txt", data: content }],
    };
    const answers = await Promise.all([send("1", more), send("1", more, other.url), send("1", more)]);
    const { messageId, sessionId } = answers[0].body;
    for (const { status, body } of answers) {
      expect(status).toBe(202);
      expect(body).toMatchObject({ messageId, sessionId, seq: null });
    }
    expect((await send("1", more, other.url)).body).toMatchObject({ seq: null, duplicate: true });
    expect((await read(messageId)).body).toMatchObject({
      ...{ messageId, sessionId, seq: null, state: "waiting", notBefore: more.notBefore, replies: [] },
    });
    expect(await mailbox(sessionId)).toEqual([]);
    expect(await inbound.getJobCounts("delayed")).toEqual({ delayed: 1 });
    expect(JSON.stringify((await job(messageId))?.data)).not.toContain(content);

    const waiting = (await job(messageId)) as Job;
    expect(waiting.timestamp + waiting.delay).toBeGreaterThanOrEqual(Date.parse(more.notBefore));
    await waiting.promote();
    await until(
      () => mailbox(sessionId),
      (messages) => messages.length > 0,
    );
    expect(await mailbox(sessionId)).toMatchObject([{ text: "later", attachments: [{ name: "a.txt" }] }]);
    const { body } = await read(messageId);
    expect(body).toMatchObject({ state: "accepted", seq: expect.any(Number) });
    expect((await send("1", more)).body).toMatchObject({ messageId, seq: body.seq, duplicate: true });
    expect((await send("1", { ...more, notBefore: inMs(HOUR_MS) })).body).toMatchObject({ seq: body.seq });
    await until(
      () => job(messageId),
      (found) => found === undefined,
    );
  });

  it("can be taken back while it waits, and only by its tenant", async () => {
    const more = { conversation: "cancelled", notBefore: inMs(HOUR_MS) };
    const { messageId } = (await send("1", more)).body;
    expect((await cancel(messageId, { key: keys.other })).status).toBe(404);
    expect((await read(messageId, { key: keys.other })).status).toBe(404);
    expect((await cancel(messageId, { key: keys.reader })).status).toBe(403);
    expect((await cancel(messageId)).status).toBe(204);
    expect((await read(messageId)).status).toBe(404);
    expect((await cancel(messageId)).status).toBe(404);
    expect((await send("1", more)).body.duplicate).toBe(false);
    expect((await cancel(messageId)).status).toBe(204);

    const accepted = (await send("2", { conversation: "cancelled" })).body;
    expect((await cancel(accepted.messageId)).body).toMatchObject({
      status: 409,
      code: "MESSAGE_NOT_WAITING",
    });
  });

  it("is accepted at once where that is past, and refused where it is too far away", async () => {
    expect((await send("1", { conversation: "past", notBefore: inMs(-1) })).body.seq).toEqual(
      expect.any(Number),
    );
    expect((await send("2", { conversation: "far", notBefore: inMs(31 * 24 * HOUR_MS) })).body).toMatchObject(
      {
        ...{ status: 400, code: "INVALID_MESSAGE", errors: [{ where: "notBefore" }] },
      },
    );
    expect((await send("3", { conversation: "far", notBefore: "tomorrow" })).status).toBe(400);
  });

  it("is not waited for", async () => {
    const notBefore = inMs(HOUR_MS);
    const waited = await call(`${running.url}/v1/messages?wait=60`, {
      body: message("1", { conversation: "nobody", notBefore }),
    });
    expect(waited).toMatchObject({ status: 202, body: { seq: null } });
    const stream = events(`${running.url}/v1/messages`, {
      body: message("2", { conversation: "nobody", notBefore }),
    });
    expect((await eventsUntil(stream, "end")).map(({ event, data }) => [event, data.reason])).toEqual([
      ["message", undefined],
      ["end", "waiting"],
    ]);
    const { stdout } = await longshore(
      ["--json", "send", "--conversation", "nobody", "--not-before", notBefore, "hello"],
      { environment: { ...process.env, LONGSHORE_URL: running.url, LONGSHORE_KEY: keys.acme } },
    );
    expect(JSON.parse(stdout)).toMatchObject({ seq: null });
  });

  it("comes as a job too, which is done when the message waits", async () => {
    const added = await inbound.add("message", {
      ...message("1", { conversation: "job", notBefore: inMs(HOUR_MS) }),
      tenant: "acme",
    });
    const messageId = deriveMessageId(session("job"), "1");
    const done = (await until(
      async () => (await inbound.getJob(added.id as string)) as Job,
      (found) => found.returnvalue !== null,
    )) as Job;
    expect(done.returnvalue).toMatchObject({ messageId, seq: null });
    expect(await (await job(messageId))?.getState()).toBe("delayed");
  });

  it("goes on waiting while the mailbox is full, and is refused after a day", async () => {
    const conversation = "full";
    for (const id of ["1", "2"]) await send(id, { conversation });
    const { messageId, sessionId } = (await send("3", { conversation, notBefore: inMs(HOUR_MS) })).body;
    const waiting = (await job(messageId)) as Job;
    await waiting.promote();
    await until(
      async () => [await waiting.getState(), (await job(messageId))?.attemptsStarted ?? 0] as const,
      ([state, started]) => state === "delayed" && started > 0,
    );
    expect((await read(messageId)).body.state).toBe("waiting");
    await stack.worker.answer(sessionId);
    await waiting.promote();
    await until(
      async () => (await read(messageId)).body.state,
      (state) => state === "accepted",
    );

    const late = deriveMessageId(sessionId, "late");
    const [any] = await mailbox(sessionId);
    await inbound.add(
      "not-before",
      { waiting: { ...any, id: late, notBefore: inMs(-25 * HOUR_MS) } },
      { jobId: `waiting-${late}` },
    );
    const refused = await until(
      () => read(late),
      ({ body }) => body.state === "dead",
    );
    expect(refused.body).toMatchObject({ seq: null, error: { code: "MAILBOX_FULL" } });
  });

  it("is refused where too many wait", async () => {
    const key = "longshore:{tenant:acme}:waiting";
    const due = Date.now() + HOUR_MS;
    const members = Array.from({ length: 10_000 }, (_, index) => [due, `made-up-${index}`]).flat();
    await stack.worker.redis.zadd(key, ...members);
    expect((await send("1", { conversation: "many", notBefore: inMs(HOUR_MS) })).body).toMatchObject({
      ...{ status: 429, code: "TOO_MANY_WAITING" },
    });
    await stack.worker.redis.del(key);
    expect((await send("1", { conversation: "many", notBefore: inMs(HOUR_MS) })).status).toBe(202);
  });
});
