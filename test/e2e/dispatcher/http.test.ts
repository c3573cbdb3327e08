import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { call, events, eventsUntil, message } from "./client.ts";
import { DispatcherStack, keys, type Running } from "./dispatcher-stack.ts";

let stack: DispatcherStack;
let running: Running;
let url: string;

beforeAll(async () => {
  stack = await DispatcherStack.start({ mailbox: 3 });
  running = await stack.dispatcher();
  url = running.url;
});
afterAll(() => stack[Symbol.asyncDispose]());

const send = (body: unknown, query = "", key: string = keys.acme) =>
  call(`${url}/v1/messages${query}`, { body, key });

describe("accepting", () => {
  it("answers 202 with ids once the message is in Redis (I2)", async () => {
    const { status, body } = await send(message("m1", { conversation: "accept" }));
    expect(status).toBe(202);
    expect(body).toMatchObject({ duplicate: false, seq: expect.any(Number) });
    const [waiting] = await stack.worker.state.readMailbox(body.sessionId, 10);
    expect(waiting).toMatchObject({ id: body.messageId, text: "hello", tenant: "acme", agent: "helper" });
    expect(JSON.stringify(waiting)).not.toContain('"m1"');
  });

  it("takes the same id twice as one message, whatever else is different", async () => {
    const first = await send(message("twice", { conversation: "twice" }));
    const second = await send(message("twice", { conversation: "twice", text: "other" }));
    expect(second.body).toEqual({ ...first.body, duplicate: true });
    expect(await stack.worker.state.readMailbox(first.body.sessionId, 10)).toHaveLength(1);
  });

  it("stores attachments under safe names of their own before it accepts", async () => {
    const attachments = [
      { name: "a.txt", data: Buffer.from("one").toString("base64") },
      { name: "A.txt", data: Buffer.from("two").toString("base64") },
    ];
    const { body } = await send(message("files", { conversation: "files", attachments }));
    const [waiting] = await stack.worker.state.readMailbox(body.sessionId, 1);
    expect(waiting?.attachments.map(({ name, sizeBytes }) => [name, sizeBytes])).toEqual([
      ["a.txt", 3],
      ["A-2.txt", 3],
    ]);
    const ref = { tenant: "acme", sessionId: body.sessionId };
    const stored = await stack.worker.store.openInbound(ref, waiting?.attachments[1]?.sha256 as string);
    expect(await text(stored.stream())).toBe("two");
  });

  it("refuses with 429 and Retry-After when the mailbox is full, and takes the same message later", async () => {
    const at = { conversation: "full" };
    for (const id of ["1", "2", "3"]) expect((await send(message(id, at))).status).toBe(202);
    const refused = await send(message("4", at));
    expect(refused).toMatchObject({ status: 429, body: { code: "MAILBOX_FULL" } });
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    const duplicate = await send(message("2", at));
    expect(duplicate).toMatchObject({ status: 202, body: { duplicate: true } });
    await stack.worker.answer(duplicate.body.sessionId);
    expect((await send(message("4", at))).status).toBe(202);
  });
});

describe("bad input", () => {
  const base64 = (bytes: number) => Buffer.alloc(bytes).toString("base64");
  const cases: [string, Record<string, unknown>, number, string][] = [
    ["unknown agent", { agent: "nobody" }, 422, "UNKNOWN_AGENT"],
    ["another tenant's agent", { agent: "stranger" }, 422, "UNKNOWN_AGENT"],
    ["an agent named like a property of objects", { agent: "constructor" }, 422, "UNKNOWN_AGENT"],
    ["unknown channel", { channel: "pigeon" }, 422, "UNKNOWN_CHANNEL"],
    ["no route", { channel: "unrouted" }, 422, "NO_ROUTE"],
    ["text above the agent's limit", { text: "x".repeat(1025) }, 413, "MESSAGE_TOO_LARGE"],
    [
      "attachments above the limit",
      { attachments: [{ data: base64(64 * 1024 + 1) }] },
      413,
      "MESSAGE_TOO_LARGE",
    ],
    ["too many attachments", { attachments: [1, 2, 3].map(() => ({ data: "" })) }, 413, "MESSAGE_TOO_LARGE"],
    ["an attachment that is no base64", { attachments: [{ data: "%%%" }] }, 400, "INVALID_MESSAGE"],
    ["a name that leaves the inbox", { attachments: [{ name: "../x", data: "" }] }, 400, "INVALID_MESSAGE"],
    ["a name with a NUL", { attachments: [{ name: "a\u0000", data: "" }] }, 400, "INVALID_MESSAGE"],
    ["an unknown field", { colour: "red" }, 400, "INVALID_MESSAGE"],
    ["a tenant in the body", { tenant: "other" }, 400, "INVALID_MESSAGE"],
    ["an id of the wrong type", { id: 7 }, 400, "INVALID_MESSAGE"],
    ["a conversation with a line break", { conversation: "a\nb" }, 400, "INVALID_MESSAGE"],
  ];

  it.each(cases)("refuses %s", async (what, change, status, code) => {
    const conversation = `refused: ${what}`;
    const answer = await send(message("bad", { conversation, ...change }));
    expect(answer).toMatchObject({ status, body: { status, code, detail: expect.any(String) } });
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
  });

  it("leaves nothing of what it refused", async () => {
    const before = [
      await stack.worker.redis.dbsize(),
      await readdir(join(stack.directory, "store"), { recursive: true }),
    ];
    const attachments = [
      { name: "fine", data: base64(10) },
      { name: "a/b", data: base64(10) },
    ];
    expect((await send(message("new", { conversation: "half", attachments }))).status).toBe(400);
    expect((await send(message("new", { conversation: "half", agent: "nobody" }))).status).toBe(422);
    const after = [
      await stack.worker.redis.dbsize(),
      await readdir(join(stack.directory, "store"), { recursive: true }),
    ];
    expect(after).toEqual(before);
  });

  it.each([
    ["malformed JSON", "{", {}, 400, "MALFORMED_JSON"],
    ["no JSON at all", "", {}, 400, "MALFORMED_JSON"],
    ["bytes that are not UTF-8", Buffer.from([0x22, 0xff, 0x22]), {}, 400, "MALFORMED_JSON"],
    [
      "another media type",
      "a=b",
      { "content-type": "application/x-www-form-urlencoded" },
      415,
      "UNSUPPORTED_MEDIA_TYPE",
    ],
    ["a body above what any agent takes", "x".repeat(300_000), {}, 413, "BODY_TOO_LARGE"],
  ])("refuses %s", async (_what, raw, headers, status, code) => {
    const answer = await call(`${url}/v1/messages`, {
      raw: raw as string | Buffer<ArrayBuffer>,
      method: "POST",
      headers,
    });
    expect(answer).toMatchObject({ status, body: { code } });
  });

  it("counts a body without an announced length, too", async () => {
    let left = 32;
    const chunks = new ReadableStream({
      pull(controller) {
        if (left-- > 0) controller.enqueue(new Uint8Array(64 * 1024));
        else controller.close();
      },
    });
    const request = fetch(`${url}/v1/messages`, {
      method: "POST",
      headers: { authorization: `Bearer ${keys.acme}`, "content-type": "application/json" },
      body: chunks,
      duplex: "half",
    } as RequestInit);
    expect((await request).status).toBe(413);
  });

  it.each(["/v1/messages?wait=0", "/v1/messages?wait=301", "/v1/messages?wait=soon", "/v1/messages?foo=1"])(
    "refuses the query of %s",
    async (path) => {
      const answer = await call(url + path, { body: message("query", { conversation: "query" }) });
      expect(answer).toMatchObject({ status: 400, body: { code: "INVALID_REQUEST" } });
    },
  );

  it.each([
    ["/v1/sessions?limit=0", 400, "INVALID_REQUEST"],
    ["/v1/sessions?cursor=x", 400, "INVALID_REQUEST"],
    ["/v1/messages/nonsense", 404, "MESSAGE_NOT_FOUND"],
    ["/v1/sessions/nonsense", 404, "SESSION_NOT_FOUND"],
    ["/v1/nothing", 404, "NOT_FOUND"],
    ["/v1/sessions/%ff", 400, "INVALID_REQUEST"],
  ])("answers GET %s with %i", async (path, status, code) => {
    expect(await call(url + path)).toMatchObject({ status, body: { code } });
  });
});

describe("keys", () => {
  it.each([
    "/v1/sessions",
    "/v1/nothing",
    "/nothing",
    "/openapi.json",
    "/queues",
    "/metrics",
    "/v1/sessions/%ff",
    "/",
  ])("answers 401 at %s without a valid key", async (path) => {
    for (const key of [null, "wrong", ""]) {
      const answer = await call(url + path, { key });
      expect(answer).toMatchObject({ status: 401, body: { code: "UNAUTHENTICATED" } });
      expect(answer.headers.get("www-authenticate")).not.toBeNull();
    }
  });

  it("answers health without one", async () => {
    expect(await call(`${url}/healthz`, { key: null })).toMatchObject({ status: 200 });
    expect(await call(`${url}/readyz`, { key: null })).toMatchObject({ status: 200, body: { ready: true } });
  });

  it("takes basic authentication at /queues only, from operators only", async () => {
    const basic = (key: string) => ({
      key: null,
      headers: { authorization: `Basic ${Buffer.from(`x:${key}`).toString("base64")}` },
    });
    expect((await call(`${url}/queues`, basic(keys.operator))).status).toBe(200);
    expect((await call(`${url}/queues`, { key: keys.operator })).status).toBe(200);
    expect(await call(`${url}/queues`, basic(keys.acme))).toMatchObject({
      status: 403,
      body: { code: "FORBIDDEN" },
    });
    expect((await call(`${url}/v1/sessions`, basic(keys.acme))).status).toBe(401);
    expect((await call(`${url}/queuesque`, basic(keys.operator))).status).toBe(401);
  });

  it("lets nobody change the jobs of turns, nor another site use the operator's browser", async () => {
    const change = (queue: string, headers: Record<string, string> = {}) =>
      call(`${url}/queues/api/queues/${queue}/clean/failed`, { key: keys.operator, method: "PUT", headers });
    expect((await change("turns")).status).toBe(405);
    expect((await change("replies")).status).toBe(405);
    expect((await change("inbound")).status).toBe(200);
    expect((await change("inbound", { "sec-fetch-site": "cross-site" })).status).toBe(403);
  });

  it("holds each key to its scopes", async () => {
    const sent = await send(message("scopes", { conversation: "scopes" }), "", keys.sender);
    expect(sent.status).toBe(202);
    const path = `/v1/messages/${sent.body.messageId}`;
    expect(await call(url + path, { key: keys.sender })).toMatchObject({
      status: 403,
      body: { code: "FORBIDDEN" },
    });
    expect((await call(url + path, { key: keys.reader })).status).toBe(200);
    expect((await send(message("scopes2"), "", keys.reader)).status).toBe(403);
    expect((await send(message("scopes3"), "", keys.operator)).status).toBe(403);
  });

  it("shows no tenant anything of another's: 404, as for what never was", async () => {
    const { body } = await send(message("mine", { conversation: "mine" }));
    await stack.worker.answer(body.sessionId, { replies: ["secret"], files: { "workspace/a": "x" } });
    for (const path of [
      `/v1/messages/${body.messageId}`,
      `/v1/sessions/${body.sessionId}`,
      `/v1/sessions/${body.sessionId}/files`,
      `/v1/sessions/${body.sessionId}/files/workspace/a`,
      `/v1/sessions/${body.sessionId}/generations`,
      `/v1/sessions/${body.sessionId}/events`,
    ]) {
      expect((await call(url + path, { key: keys.other })).status).toBe(404);
    }
    expect((await call(`${url}/v1/sessions`, { key: keys.other })).body).toEqual({ sessions: [] });
    // Also when Redis has forgotten whose it is.
    await stack.worker.redis.del(`longshore:{${body.sessionId}}:session`);
    expect((await call(`${url}/v1/sessions/${body.sessionId}`, { key: keys.other })).status).toBe(404);
    expect((await call(`${url}/v1/sessions/${body.sessionId}`)).status).toBe(200);
  });
});

describe("waiting and streaming", () => {
  it("holds for the end of the message and gives its replies", async () => {
    const first = await send(message("w1", { conversation: "wait" }));
    const waiting = send(message("w1", { conversation: "wait" }), "?wait=30");
    await stack.worker.answer(first.body.sessionId, { replies: ["done"], artifacts: { "r.txt": "content" } });
    const { status, body } = await waiting;
    expect(status).toBe(200);
    expect(body).toMatchObject({
      state: "answered",
      duplicate: true,
      generation: 1,
      replies: [{ text: "done" }],
    });
    expect(await send(message("w1", { conversation: "wait" }), "?wait=30")).toMatchObject({ status: 200 });

    const [artifact] = body.replies[0].artifacts;
    expect(artifact).toMatchObject({ name: "r.txt", sizeBytes: 7 });
    const content = await call(url + artifact.path);
    expect(content.body).toBe("content");
    expect(content.headers.get("content-security-policy")).toContain("sandbox");
    expect((await call(url + artifact.path, { key: keys.other })).status).toBe(404);
    expect((await call(`${url}/v1/messages/${body.messageId}/artifacts/none`)).status).toBe(404);
  });

  it("answers 202 with the state when the time is over", async () => {
    const answer = await send(message("slow", { conversation: "slow" }), "?wait=1");
    expect(answer).toMatchObject({ status: 202, body: { state: "accepted", replies: [] } });
  });

  it("streams the text of this message's turn, then its replies", async () => {
    const at = { conversation: "stream" };
    const before = await send(message("s0", at));
    const stream = events(`${url}/v1/messages`, { body: message("s1", at) });
    expect(await stream.next()).toMatchObject({ value: { event: "message", data: { duplicate: false } } });
    const rest = eventsUntil(stream, "end");
    await stack.worker.answer(before.body.sessionId, { text: ["not for s1"], replies: ["other"] });
    await stack.worker.answer(before.body.sessionId, { text: ["he", "llo"], replies: ["hello", "again"] });
    const received = await rest;
    expect(received.map(({ event }) => event)).toEqual([
      ...["accepted", "turn.started", "text", "text", "message.ended", "reply", "reply", "end"],
    ]);
    expect(received.filter(({ event }) => event === "text").map(({ data }) => data.text)).toEqual([
      "he",
      "llo",
    ]);
    expect(received.filter(({ event }) => event === "reply").map(({ data }) => data.text)).toEqual([
      "hello",
      "again",
    ]);
    expect(received.at(-1)?.data).toMatchObject({ reason: "ended", message: { state: "answered" } });
  });

  it("resumes a session's events after the last one that was seen", async () => {
    const { body } = await send(message("e1", { conversation: "events" }));
    const path = `${url}/v1/sessions/${body.sessionId}/events`;
    const [accepted] = await eventsUntil(events(path), "accepted");
    await stack.worker.answer(body.sessionId, { text: ["a", "b", "c"], replies: ["x"] });
    const all = await eventsUntil(
      events(path, { headers: { "last-event-id": accepted?.id as string } }),
      "reply.delivered",
    );
    expect(all.map(({ event }) => event)).toEqual([
      ...["turn.started", "text", "text", "text", "message.ended", "reply.delivered"],
    ]);
    const middle = all[2]?.id as string;
    const resumed = await eventsUntil(
      events(path, { headers: { "last-event-id": middle } }),
      "reply.delivered",
    );
    expect(resumed).toEqual(all.slice(3));
    expect(await call(path, { headers: { "last-event-id": "yesterday" } })).toMatchObject({ status: 400 });

    // Of an event that is not kept any more it is told that others may be missing.
    await stack.worker.redis.xtrim(`longshore:{${body.sessionId}}:events`, "MAXLEN", 1);
    const late = await eventsUntil(events(path, { headers: { "last-event-id": middle } }), "reply.delivered");
    expect(late).toEqual([{ id: undefined, event: "gap", data: { after: middle } }, all.at(-1)]);
  });
});

describe("sessions", () => {
  it("lists all of them, page by page, latest activity first", async () => {
    for (const conversation of ["p1", "p2", "p3", "p4", "p5"]) await send(message("x", { conversation }));
    const all = (await call(`${url}/v1/sessions?limit=100`)).body.sessions;
    const paged: unknown[] = [];
    let cursor = "";
    do {
      const { body } = await call(`${url}/v1/sessions?limit=2${cursor}`);
      expect(body.sessions.length).toBeLessThanOrEqual(2);
      paged.push(...body.sessions);
      cursor = body.cursor === undefined ? "" : `&cursor=${body.cursor}`;
    } while (cursor !== "");
    expect(paged).toEqual(all);
    expect(new Set(all.map(({ sessionId }: { sessionId: string }) => sessionId)).size).toBe(all.length);
  });

  it("shows generations and the files of each", async () => {
    const { body } = await send(message("g1", { conversation: "files2" }));
    const { sessionId } = body;
    const path = `${url}/v1/sessions/${sessionId}`;
    expect((await call(`${path}/files`)).body).toEqual({ generation: 0, files: [] });
    expect(await call(`${path}/files/workspace/a.txt`)).toMatchObject({
      status: 404,
      body: { code: "FILE_NOT_FOUND" },
    });
    await stack.worker.answer(sessionId, {
      replies: ["1"],
      files: { "workspace/a.txt": "one", "workspace/p.html": "<b>" },
    });
    await send(message("g2", { conversation: "files2" }));
    await stack.worker.answer(sessionId, { replies: ["2"], files: { "workspace/a.txt": "two!" } });

    expect((await call(path)).body).toMatchObject({ agent: "helper", waiting: 0, newest: { generation: 2 } });
    const { generations } = (await call(`${path}/generations`)).body;
    expect(generations).toMatchObject([
      { generation: 2, parent: 1, kind: "turn", replies: 1 },
      { generation: 1, parent: 0, ends: [{ messageId: body.messageId, outcome: "answered" }] },
    ]);
    expect((await call(`${path}/files`)).body).toMatchObject({
      generation: 2,
      files: [
        { path: "workspace", type: "directory" },
        { path: "workspace/a.txt", type: "file", sizeBytes: 4 },
        { path: "workspace/p.html" },
      ],
    });
    const second = await call(`${path}/files?limit=1`);
    expect((await call(`${path}/files?limit=1&cursor=${second.body.cursor}`)).body.files[0].path).toBe(
      "workspace/a.txt",
    );
    expect((await call(`${path}/files?under=workspace/a.txt`)).body.files).toHaveLength(1);

    for (const shape of ["workspace/a.txt", "%2Fworkspace/a.txt", "%2Fsession/workspace/a.txt"])
      expect(await call(`${path}/files/${shape}`)).toMatchObject({ status: 200, body: "two!" });
    const base64 = Buffer.from("workspace/a.txt").toString("base64url");
    expect((await call(`${path}/files/${base64}?encoding=base64url&generation=1`)).body).toBe("one");
    const html = await call(`${path}/files/workspace/p.html`);
    expect(html.headers.get("content-type")).toContain("text/html");
    expect(html.headers.get("content-disposition")).toContain("attachment");
    expect(html.headers.get("x-content-type-options")).toBe("nosniff");

    expect(await call(`${path}/files/workspace`)).toMatchObject({
      status: 409,
      body: { code: "NOT_A_FILE" },
    });
    expect(await call(`${path}/files/workspace/none`)).toMatchObject({ status: 404 });
    expect(await call(`${path}/files/workspace/..%2F..%2Fetc`)).toMatchObject({
      status: 400,
      body: { code: "UNSAFE_PATH" },
    });
    expect(await call(`${path}/files?generation=9`)).toMatchObject({
      status: 404,
      body: { code: "GENERATION_NOT_FOUND" },
    });
  });

  it("describes itself in OpenAPI 3.1", async () => {
    const { body } = await call(`${url}/openapi.json`);
    expect(body.openapi).toBe("3.1.0");
    expect(Object.keys(body.paths)).toEqual(
      expect.arrayContaining([
        "/v1/messages",
        "/v1/messages/{messageId}",
        "/v1/sessions/{sessionId}/files/{*}",
      ]),
    );
  });
});

describe("the process", () => {
  it("counts what it did, and keeps keys and texts out of its log", async () => {
    const metrics = await (await fetch(`${running.metricsUrl}/metrics`)).text();
    expect(metrics).toMatch(/longshore_messages_total\{tenant="acme",agent="helper",outcome="accepted"\} \d/);
    expect(metrics).toMatch(/longshore_messages_total\{tenant="acme",agent="unknown",outcome="refused"\} \d/);
    expect(metrics).toMatch(/longshore_refusals_total\{tenant="acme",code="UNKNOWN_AGENT"\} \d/);
    expect(metrics).toMatch(/bullmq_job_count\{queue="turns",state="waiting"\} \d/);
    const log = JSON.stringify(running.process.lines);
    for (const key of Object.values(keys)) expect(log).not.toContain(key);
    expect(log).not.toContain("not for s1");
    expect(running.process.lines.filter(({ level }) => level >= 50)).toEqual([]);
    expect(running.process.stderr).toBe("");
  });
});
