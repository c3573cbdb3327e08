import { createHash } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { call, message } from "./client.ts";
import { DispatcherStack, keys } from "./dispatcher-stack.ts";

// What the dispatcher does with operations on sessions; the worker is moved by hand.

let stack: DispatcherStack;
let url: string;
let session: string;
let sessionId: string;
let conversations = 0;

beforeAll(async () => {
  stack = await DispatcherStack.start({ mailbox: 5 });
  ({ url } = await stack.dispatcher());
});
afterAll(() => stack[Symbol.asyncDispose]());

/** A session of its own for each test, of one generation. */
beforeEach(async () => {
  const { body } = await call(`${url}/v1/messages`, {
    body: message("1", { conversation: `c${conversations++}` }),
  });
  sessionId = body.sessionId;
  session = `${url}/v1/sessions/${sessionId}`;
  await stack.worker.answer(sessionId, { files: { "workspace/old": "old" } });
});

const sha256 = (content: string) => createHash("sha256").update(content).digest("hex");
const put = (path: string, raw: string, headers: Record<string, string> = {}, key: string = keys.acme) =>
  call(`${session}/${path}`, { method: "PUT", raw, headers, key });
const mailbox = () => stack.worker.state.readMailbox(sessionId, 10);
const waiting = async () => {
  for (;;) {
    const [first] = await mailbox();
    if (first !== undefined) return first;
  }
};

describe("PUT of a file", () => {
  it("is a message in order, whose content is stored before", async () => {
    const answer = await put(
      "files/workspace/new?wait=0&mode=755&modifiedAt=2026-01-02T03:04:05Z",
      "content",
    );
    expect(answer).toMatchObject({ status: 202, body: { sessionId, duplicate: false } });
    const [accepted] = await mailbox();
    expect(accepted).toMatchObject({
      id: answer.body.messageId,
      agent: "helper",
      channel: "http",
      text: "",
      operation: {
        type: "upload",
        remove: [],
        set: [
          {
            path: "workspace/new",
            sha256: sha256("content"),
            sizeBytes: 7,
            mode: 0o755,
            modifiedAt: "2026-01-02T03:04:05Z",
          },
        ],
      },
    });
    const found = await stack.worker.store.findInbound({ tenant: "acme", sessionId }, [sha256("content")]);
    expect(found.size).toBe(1);
  });

  it("answers 201 for what is new and 204 for what was there, with the generation", async () => {
    const fresh = put("files/workspace/new", "one");
    await waiting();
    await stack.worker.answer(sessionId, { files: { "workspace/new": "one" } });
    const created = await fresh;
    expect(created).toMatchObject({ status: 201, body: { sessionId, generation: 2 } });
    expect(created.headers.get("longshore-generation")).toBe("2");
    const again = put("files/workspace/old", "two");
    await waiting();
    await stack.worker.answer(sessionId, { files: { "workspace/old": "two" } });
    const replaced = await again;
    expect(replaced).toMatchObject({ status: 204, body: "" });
    expect(replaced.headers.get("longshore-generation")).toBe("3");
  });

  it("takes any type of body as bytes, none too, and names that are no text", async () => {
    const path = Buffer.from([0x77, 0xff]).toString("base64url");
    await put(`files/${path}?encoding=base64url&wait=0`, '{"not": "parsed"', {
      "content-type": "application/json",
    });
    await put("files/workspace/empty?wait=0", "", { "content-type": "text/plain" });
    expect((await mailbox()).map(({ operation }) => operation)).toMatchObject([
      { set: [{ path: { base64: path }, sizeBytes: 16 }] },
      { set: [{ path: "workspace/empty", sizeBytes: 0 }] },
    ]);
  });

  it("is one request, however often it is sent, by its Idempotency-Key", async () => {
    const send = () => put("files/workspace/a?wait=0", "x", { "idempotency-key": "k" });
    const first = await send();
    expect((await send()).body).toEqual({ ...first.body, duplicate: true });
    expect(await mailbox()).toHaveLength(1);
    // An operation's key and a message's id are different things.
    const chat = await call(`${url}/v1/messages`, {
      body: message("k", { conversation: `c${conversations - 1}` }),
    });
    expect(chat.body).toMatchObject({ sessionId, duplicate: false });
  });

  it("says why it could not be applied, with the reason's code", async () => {
    const answer = put("files/workspace/old/x", "x");
    const { id } = await waiting();
    await stack.worker.refuse(sessionId, { code: "UNSAFE_PATH", message: "a file is in the way" });
    expect(await answer).toMatchObject({
      status: 400,
      body: { code: "UNSAFE_PATH", detail: "a file is in the way" },
    });
    expect((await call(`${url}/v1/messages/${id}`)).body).toMatchObject({ state: "dead" });
  });

  it("answers 202 when the time is over", async () => {
    expect((await put("files/workspace/a?wait=1", "x")).status).toBe(202);
  });

  it("knows where a session is talked to when Redis has forgotten it", async () => {
    await stack.worker.redis.del(`longshore:{${sessionId}}:session`);
    expect((await put("files/workspace/a?wait=0", "x")).status).toBe(202);
    expect((await mailbox())[0]).toMatchObject({ agent: "helper", conversation: `c${conversations - 1}` });
  });

  it.each<[string, string, string, number, string]>([
    ["a path that leads out", "files/workspace/..%2f..%2fetc?wait=0", "x", 400, "UNSAFE_PATH"],
    ["a mode that is none", "files/workspace/a?mode=4755", "x", 400, "INVALID_REQUEST"],
    ["a time that is none", "files/workspace/a?modifiedAt=yesterday", "x", 400, "INVALID_REQUEST"],
    ["more than a session may hold", "files/workspace/a", "x".repeat(1024 ** 2 + 1), 413, "BODY_TOO_LARGE"],
    ["content that is another", `uploads/${sha256("y")}`, "x", 422, "DIGEST_MISMATCH"],
    ["a hash that is none", "uploads/abc", "x", 400, "INVALID_REQUEST"],
  ])("refuses %s", async (_what, path, content, status, code) => {
    expect(await put(path, content)).toMatchObject({ status, body: { code } });
    expect(await mailbox()).toEqual([]);
  });

  it("is for the session's tenant and for who may change things", async () => {
    expect((await put("files/workspace/a", "x", {}, keys.other)).body.code).toBe("SESSION_NOT_FOUND");
    expect((await put("files/workspace/a", "x", {}, keys.sender)).body.code).toBe("FORBIDDEN");
    expect((await put("files/workspace/a", "x", {}, keys.reader)).body.code).toBe("FORBIDDEN");
    const nowhere = `${url}/v1/sessions/${"a".repeat(26)}/files/workspace/a`;
    expect((await call(nowhere, { method: "PUT", raw: "x" })).body.code).toBe("SESSION_NOT_FOUND");
    expect(await mailbox()).toEqual([]);
  });

  it("is refused where the mailbox is full", async () => {
    for (let time = 0; time < 5; time++) await put(`files/workspace/${time}?wait=0`, "x");
    expect(await put("files/workspace/a?wait=0", "x")).toMatchObject({
      status: 429,
      body: { code: "MAILBOX_FULL" },
    });
  });

  it("takes no more of a body without an announced length than a session may hold", async () => {
    let left = 40;
    const chunks = new ReadableStream({
      pull(controller) {
        if (left-- > 0) controller.enqueue(new Uint8Array(64 * 1024));
        else controller.close();
      },
    });
    const answer = await fetch(`${session}/files/workspace/a`, {
      method: "PUT",
      headers: { authorization: `Bearer ${keys.acme}` },
      body: chunks,
      duplex: "half",
    } as RequestInit);
    expect(answer.status).toBe(413);
  });
});

describe("a push", () => {
  const push = (body: unknown, query = "?wait=0") => call(`${session}/push${query}`, { body });
  const file = (path: unknown, content: string) => ({
    path,
    sha256: sha256(content),
    sizeBytes: content.length,
  });

  it("names what has to be uploaded first, and is accepted whole after", async () => {
    const manifest = {
      set: [file("workspace/a", "one"), file("workspace/b", "two"), file("workspace/c", "one")],
      links: [{ path: "workspace/l", target: "a" }],
      directories: [{ path: "workspace/d", mode: 0o700 }],
      remove: ["workspace/old"],
    };
    const refused = await push(manifest);
    expect(refused).toMatchObject({ status: 409, body: { code: "UPLOADS_MISSING" } });
    expect(new Set(refused.body.missing)).toEqual(new Set([sha256("one"), sha256("two")]));
    await put(`uploads/${sha256("one")}`, "one");
    expect((await push(manifest)).body.missing).toEqual([sha256("two")]);
    await put(`uploads/${sha256("two")}`, "two");
    expect((await push(manifest)).status).toBe(202);
    expect((await mailbox()).map(({ operation }) => operation)).toEqual([{ type: "upload", ...manifest }]);
  });

  it("answers with its generation", async () => {
    const answer = push({ remove: ["workspace/old"] }, "");
    await waiting();
    await stack.worker.answer(sessionId);
    expect(await answer).toMatchObject({ status: 200, body: { generation: 2 } });
  });

  it("may be longer than any message", async () => {
    const remove = Array.from({ length: 20_000 }, (_, index) => `workspace/directory/file-${index}`);
    expect((await push({ remove })).status).toBe(202);
  });

  it.each<[string, object]>([
    ["nothing to do", {}],
    ["a path twice", { remove: [], links: ["a", "a"].map((path) => ({ path, target: "x" })) }],
    ["an absolute path", { remove: ["/etc"] }],
    ["an unknown field", { remove: ["a"], colour: "red" }],
    ["too many paths", { remove: Array.from({ length: 50_001 }, (_, index) => `${index}`) }],
  ])("refuses %s", async (_what, body) => {
    const answer = await push(body);
    expect(answer).toMatchObject({ status: 400, body: { code: "INVALID_REQUEST" } });
    expect(answer.body.errors.length).toBeGreaterThan(0);
  });
});

describe("generations", () => {
  beforeEach(async () => {
    await call(`${url}/v1/messages`, { body: message("2", { conversation: `c${conversations - 1}` }) });
    await stack.worker.answer(sessionId, { files: { "workspace/old": "changed", "workspace/new": "new" } });
  });

  it("say what changed in each", async () => {
    const { generations } = (await call(`${session}/generations`)).body;
    expect(generations).toMatchObject([
      { generation: 2, changed: { set: 2, removed: 0 } },
      { generation: 1, changed: { set: 1, removed: 0 } },
    ]);
  });

  it("are compared with each other, and with nothing", async () => {
    const diff = async (query = "") => (await call(`${session}/diff${query}`)).body;
    expect(await diff()).toMatchObject({
      ...{ from: 1, to: 2, total: 2 },
      changes: [
        { path: "workspace/new", change: "added", after: { sizeBytes: 3 } },
        { path: "workspace/old", change: "changed", before: { sizeBytes: 3 }, after: { sizeBytes: 7 } },
      ],
    });
    expect((await diff()).changes[1].what).toContain("content");
    expect((await diff("?from=2&to=1")).changes[0]).toMatchObject({
      path: "workspace/new",
      change: "removed",
    });
    expect(await diff("?from=0&to=1")).toMatchObject({ from: 0, total: 2 });
    const first = await diff("?limit=1");
    expect(first.changes).toHaveLength(1);
    const second = await diff(`?limit=1&cursor=${first.cursor}`);
    expect(second.changes.map(({ path }: { path: string }) => path)).toEqual(["workspace/old"]);
    expect(second.cursor).toBeUndefined();
    expect((await call(`${session}/diff?from=9`)).body.code).toBe("GENERATION_NOT_FOUND");
    expect((await call(`${session}/diff`, { key: keys.other })).status).toBe(404);
  });

  it("are gone back to by a message in order", async () => {
    const rollback = (generation: unknown) => call(`${session}/rollback?wait=0`, { body: { generation } });
    expect((await rollback(1)).status).toBe(202);
    expect((await mailbox())[0]?.operation).toEqual({ type: "rollback", generation: 1 });
    expect(await rollback(9)).toMatchObject({ status: 404, body: { code: "GENERATION_NOT_FOUND" } });
    expect(await rollback(0)).toMatchObject({ status: 400, body: { code: "INVALID_REQUEST" } });
    expect(await mailbox()).toHaveLength(1);
  });
});

describe("a fork", () => {
  const fork = (body: object, key: string = keys.acme) => call(`${session}/fork`, { body, key });

  it("is a session of another conversation with the files of the generation", async () => {
    const made = await fork({ conversation: `fork of ${sessionId}` });
    expect(made).toMatchObject({
      status: 201,
      body: {
        generation: 1,
        agent: "helper",
        channel: "http",
        conversation: `fork of ${sessionId}`,
        source: { sessionId, generation: 1 },
      },
    });
    const forked = `${url}/v1/sessions/${made.body.sessionId}`;
    expect((await call(`${forked}/files/workspace/old`)).body).toBe("old");
    expect((await call(forked)).body).toMatchObject({ agent: "helper", newest: { kind: "fork" } });
    expect((await call(forked, { key: keys.other })).status).toBe(404);
    const listed = (await call(`${url}/v1/sessions?limit=1`)).body.sessions;
    expect(listed).toMatchObject([{ sessionId: made.body.sessionId, agent: "helper", generation: 1 }]);
    // Messages of that conversation find it, and what is put into it knows where it is talked to.
    const sent = await call(`${url}/v1/messages`, {
      body: message("1", { conversation: `fork of ${sessionId}` }),
    });
    expect(sent.body.sessionId).toBe(made.body.sessionId);
    expect((await call(session)).body.newest.generation).toBe(1);
  });

  it("can be put files into before it was ever talked to", async () => {
    const { body } = await fork({});
    const path = `${url}/v1/sessions/${body.sessionId}/files/workspace/a?wait=0`;
    expect((await call(path, { method: "PUT", raw: "x" })).status).toBe(202);
    const [accepted] = await stack.worker.state.readMailbox(body.sessionId, 1);
    expect(accepted).toMatchObject({ agent: "helper", channel: "http", conversation: body.conversation });
  });

  it("never takes the place of a session, nor of messages that wait for one", async () => {
    const conversation = `fork once ${sessionId}`;
    expect((await fork({ conversation })).status).toBe(201);
    expect(await fork({ conversation })).toMatchObject({ status: 409, body: { code: "SESSION_EXISTS" } });
    const other = `waiting ${sessionId}`;
    await call(`${url}/v1/messages`, { body: message("1", { conversation: other }) });
    expect(await fork({ conversation: other })).toMatchObject({
      status: 409,
      body: { code: "SESSION_EXISTS" },
    });
  });

  it("begins from a generation that there is, of a session of one's own", async () => {
    expect(await fork({ generation: 7 })).toMatchObject({
      status: 404,
      body: { code: "GENERATION_NOT_FOUND" },
    });
    expect((await fork({}, keys.other)).status).toBe(404);
    expect((await fork({}, keys.sender)).status).toBe(403);
  });
});
