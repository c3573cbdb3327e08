import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { call, message } from "./client.ts";
import { DispatcherStack, keys } from "./dispatcher-stack.ts";

let stack: DispatcherStack;
let url: string;
let files: string;
let artifact: string;
/** Of three chunks. */
const large = Buffer.alloc(2_500_000, "0123456789");

beforeAll(async () => {
  stack = await DispatcherStack.start();
  ({ url } = await stack.dispatcher());
  const { body } = await call(`${url}/v1/messages`, { body: message("1") });
  await stack.worker.answer(body.sessionId, {
    replies: ["done"],
    files: {
      "workspace/ten": "0123456789",
      "workspace/same": "0123456789",
      "workspace/large": large.toString(),
      "workspace/empty": "",
      "workspace/page.html": "<script>",
    },
    artifacts: { "bericht ü.txt": "0123456789" },
  });
  files = `${url}/v1/sessions/${body.sessionId}/files/workspace`;
  const answered = await call(`${url}/v1/messages/${body.messageId}`);
  artifact = answered.body.replies[0].artifacts[0].path;
});
afterAll(() => stack[Symbol.asyncDispose]());

const get = (path: string, headers: Record<string, string> = {}, method = "GET") =>
  call(path, { headers, method });

describe("a file", () => {
  it.each([
    ["bytes=2-4", 206, "234", "bytes 2-4/10"],
    ["bytes=8-", 206, "89", "bytes 8-9/10"],
    ["bytes=-2", 206, "89", "bytes 8-9/10"],
    ["bytes=0-99", 206, "0123456789", "bytes 0-9/10"],
    ["bytes=0-0,9-9", 200, "0123456789", null],
    ["lines=1-2", 200, "0123456789", null],
  ])("gives the range %s", async (range, status, body, contentRange) => {
    const answer = await get(`${files}/ten`, { range });
    expect(answer).toMatchObject({ status, body });
    expect(answer.headers.get("content-range")).toBe(contentRange);
    expect(answer.headers.get("content-length")).toBe(String(body.length));
    expect(answer.headers.get("accept-ranges")).toBe("bytes");
  });

  it("gives ranges across its chunks", async () => {
    for (const [start, end] of [
      [1_048_570, 1_048_580],
      [1_000_000, 2_400_000],
      [2_499_999, 2_499_999],
    ] as const) {
      const answer = await get(`${files}/large`, { range: `bytes=${start}-${end}` });
      expect(answer.status).toBe(206);
      expect(answer.body === large.toString("latin1", start, end + 1)).toBe(true);
    }
  });

  it.each([
    ["ten", "bytes=10-"],
    ["ten", "bytes=-0"],
    ["empty", "bytes=0-"],
  ])("says of %s that %s can't be had", async (name, range) => {
    const answer = await get(`${files}/${name}`, { range });
    expect(answer).toMatchObject({ status: 416, body: { code: "RANGE_NOT_SATISFIABLE" } });
    expect(answer.headers.get("content-range")).toBe(`bytes */${name === "ten" ? 10 : 0}`);
  });

  it("gives nothing where it is known already, by its content, whatever its name", async () => {
    const tag = (await get(`${files}/ten`)).headers.get("etag") as string;
    expect((await get(`${files}/same`)).headers.get("etag")).toBe(tag);
    expect((await get(`${files}/empty`)).headers.get("etag")).not.toBe(tag);
    for (const known of [tag, `"other", W/${tag}`, "*"]) {
      const answer = await get(`${files}/ten`, { "if-none-match": known });
      expect(answer).toMatchObject({ status: 304, body: "" });
      expect(answer.headers.get("etag")).toBe(tag);
    }
    expect((await get(`${files}/ten`, { "if-none-match": '"other"' })).status).toBe(200);
  });

  it("gives a part only of the content that If-Range names", async () => {
    const tag = (await get(`${files}/ten`)).headers.get("etag") as string;
    const part = (ifRange: string) => get(`${files}/ten`, { range: "bytes=0-1", "if-range": ifRange });
    expect(await part(tag)).toMatchObject({ status: 206, body: "01" });
    for (const other of ['"other"', `W/${tag}`, "Sun, 22 Nov 2026 19:00:00 GMT"])
      expect(await part(other)).toMatchObject({ status: 200, body: "0123456789" });
  });

  it("answers HEAD with the headers of GET", async () => {
    const whole = await get(`${files}/large`, { range: "bytes=0-1" }, "HEAD");
    expect(whole).toMatchObject({ status: 200, body: "" });
    expect(whole.headers.get("content-length")).toBe("2500000");
    expect(whole.headers.get("etag")).toBe((await get(`${files}/large`)).headers.get("etag"));
    expect((await get(`${files}/none`, {}, "HEAD")).status).toBe(404);
  });

  it("comes in a way that no browser runs", async () => {
    const { headers } = await get(`${files}/page.html`);
    expect(headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(headers.get("content-disposition")).toContain("attachment");
    expect(headers.get("content-security-policy")).toContain("sandbox");
    expect(headers.get("x-content-type-options")).toBe("nosniff");
  });

  it("has no address that is not what it says to be", async () => {
    expect(await get(`${files}/a+b?encoding=base64url`)).toMatchObject({
      status: 400,
      body: { code: "INVALID_REQUEST" },
    });
  });
});

describe("an artifact", () => {
  it("has content, and ranges of it", async () => {
    expect((await get(url + artifact)).body).toBe("0123456789");
    expect(await get(url + artifact, { range: "bytes=1-3" })).toMatchObject({ status: 206, body: "123" });
    expect((await get(url + artifact, {}, "HEAD")).headers.get("content-length")).toBe("10");
  });

  it("can be read by whoever has a link, until it expires", async () => {
    const { body } = await get(`${url}${artifact}/link?expires=2`);
    const opened = await call(url + body.path, { key: null, headers: { range: "bytes=-1" } });
    expect(opened).toMatchObject({ status: 206, body: "9" });
    expect(opened.headers.get("content-type")).toBe("text/plain; charset=utf-8");
    expect(opened.headers.get("content-disposition")).toBe("inline; filename*=UTF-8''bericht%20%C3%BC.txt");
    expect(Date.parse(body.expiresAt)).toBeLessThan(Date.now() + 3_000);
    let late = opened;
    while (late.status !== 410) late = await call(url + body.path, { key: null });
    expect(late.body).toMatchObject({ code: "LINK_EXPIRED" });
  });

  it("can be read by no link that was not signed here, nor after the key was taken away", async () => {
    const { body } = await get(`${url}${artifact}/link`);
    const [payload = "", signature = ""] = body.path.slice("/artifacts/".length).split(".");
    const claims = JSON.parse(Buffer.from(payload, "base64url").toString());
    const forged = Buffer.from(JSON.stringify({ ...claims, e: claims.e + 1 })).toString("base64url");
    const open = (token: string) => call(`${url}/artifacts/${token}`, { key: null });
    for (const token of [
      `${forged}.${signature}`,
      payload,
      `${payload}.`,
      `${payload}.${signature.slice(1)}`,
      "x",
    ])
      expect(await open(token)).toMatchObject({ status: 404, body: { code: "ARTIFACT_NOT_FOUND" } });
    expect((await open(`${payload}.${signature}`)).status).toBe(200);
    await stack.worker.redis.del("longshore:{fleet}:artifact-links");
    expect((await open(`${payload}.${signature}`)).status).toBe(404);
  });

  it("has links for its own tenant only, that live for at most a week", async () => {
    expect((await call(`${url}${artifact}/link`, { key: keys.other })).status).toBe(404);
    expect((await call(`${url}${artifact}/link`, { key: keys.sender })).status).toBe(403);
    expect((await get(`${url}${artifact}/link?expires=604801`)).status).toBe(400);
  });
});
