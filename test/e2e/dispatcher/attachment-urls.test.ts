import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { inboundJobSchema, QUEUE_PREFIX, queueNames } from "@longshore/shared";
import { Queue, QueueEvents } from "bullmq";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { call, message } from "./client.ts";
import { DispatcherStack, keys } from "./dispatcher-stack.ts";

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** A server of files, and what it was asked for. */
class FileServer implements AsyncDisposable {
  readonly asked: string[] = [];
  readonly #answers: Readonly<Record<string, Answer>>;
  readonly #server: Server;

  private constructor(answers: Readonly<Record<string, Answer>>) {
    this.#answers = answers;
    this.#server = createServer((request, response) => {
      const { pathname } = new URL(request.url ?? "", "http://files");
      this.asked.push(pathname);
      this.#answers[pathname]?.(request, response);
    });
  }

  static async start(answers: Readonly<Record<string, Answer>>): Promise<FileServer> {
    const server = new FileServer(answers);
    server.#server.listen(0, "127.0.0.1");
    await once(server.#server, "listening");
    return server;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

const TOKEN = "token-of-the-file-server";
let stranger: FileServer;
let files: FileServer;
let stack: DispatcherStack;
let url: string;
let logged: () => string;
let broken = false;

beforeAll(async () => {
  stranger = await FileServer.start({ "/secret": (_, response) => response.end("not for you") });
  files = await FileServer.start({
    "/report.csv": (_, response) => response.writeHead(200, { "content-type": "text/csv" }).end("a,b\n"),
    "/dir/%2Fetc%2Fpasswd": (_, response) => response.end("no name"),
    "/moved": (_, response) => response.writeHead(302, { location: "/report.csv" }).end(),
    "/away": (_, response) => response.writeHead(302, { location: `${stranger.origin}/secret` }).end(),
    "/guarded": (_, response) =>
      response.writeHead(302, { location: `${files.origin.replace("//", "//a:b@")}/report.csv` }).end(),
    "/around": (_, response) => response.writeHead(307, { location: "/around" }).end(),
    "/missing": (_, response) => response.writeHead(404).end(),
    "/sometimes": (_, response) => response.writeHead(broken ? 503 : 200).end("well"),
    "/cut": (_, response) => {
      response.writeHead(200, { "content-length": "10" }).write("abc", () => response.destroy());
    },
    "/announced": (_, response) =>
      response.writeHead(200, { "content-length": String(1024 ** 3) }).flushHeaders(),
    "/endless": (_, response) => {
      const more = () => {
        while (response.write(Buffer.alloc(16 * 1024)));
      };
      response.on("drain", more);
      more();
    },
  });
  stack = await DispatcherStack.start({ attachmentOrigins: [files.origin] });
  const running = await stack.dispatcher();
  url = running.url;
  logged = () => JSON.stringify(running.process.lines) + running.process.stderr;
});
afterAll(async () => {
  await stack[Symbol.asyncDispose]();
  await files[Symbol.asyncDispose]();
  await stranger[Symbol.asyncDispose]();
});
beforeEach(() => {
  broken = false;
});

const send = (id: string, attachments: unknown) =>
  call(`${url}/v1/messages`, { body: message(id, { conversation: id, attachments }), key: keys.acme });

/** The stored attachments of the message that waits in a session. */
async function stored(sessionId: string) {
  const [waiting] = await stack.worker.state.readMailbox(sessionId, 1);
  return await Promise.all(
    (waiting?.attachments ?? []).map(async ({ name, contentType, sha256 }) => {
      const object = await stack.worker.store.openInbound({ tenant: "acme", sessionId }, sha256);
      return [name, contentType, await text(object.stream())];
    }),
  );
}

it("are fetched and stored before the message is accepted, beside those that came in it", async () => {
  const attachments = [
    { url: `${files.origin}/moved?key=${TOKEN}` },
    { name: "own.txt", data: Buffer.from("own").toString("base64") },
  ];
  const { status, body } = await send("fetched", attachments);
  expect(status).toBe(202);
  expect(await stored(body.sessionId)).toEqual([
    ["moved", "text/csv", "a,b\n"],
    ["own.txt", "text/plain", "own"],
  ]);
  // Of the server's secrets nothing is kept or told.
  expect(logged()).not.toContain(TOKEN);
  const waiting = await stack.worker.state.readMailbox(body.sessionId, 1);
  expect(JSON.stringify(waiting)).not.toContain(TOKEN);
});

it("have the last part of their address for a name, where that can be one", async () => {
  const { body } = await send("named", [
    { url: `${files.origin}/report.csv?x=1` },
    { url: `${files.origin}/dir/%2Fetc%2Fpasswd`, contentType: "text/plain" },
  ]);
  expect(await stored(body.sessionId)).toEqual([
    ["report.csv", "text/csv", "a,b\n"],
    ["attachment-2.txt", "text/plain", "no name"],
  ]);
});

it("sent again are not fetched again, whatever their server has now", async () => {
  const attachments = [{ url: `${files.origin}/sometimes` }];
  const first = await send("again", attachments);
  const asked = files.asked.length;
  broken = true;
  expect(await send("again", attachments)).toMatchObject({
    status: 202,
    body: { duplicate: true, messageId: first.body.messageId },
  });
  expect(files.asked.length).toBe(asked);
});

it.each<[string, string, number, string, RegExp]>([
  ["of another origin", "https://example.org/x", 400, "INVALID_MESSAGE", /attachmentOrigins/],
  ["that lead to another origin", "/away", 400, "INVALID_MESSAGE", /sends elsewhere/],
  ["that lead around in a circle", "/around", 400, "INVALID_MESSAGE", /sends elsewhere/],
  ["that are not there", "/missing", 400, "INVALID_MESSAGE", /answered 404/],
  ["that break off", "/cut", 502, "ATTACHMENT_FETCH_FAILED", /broke off/],
  ["that say they are too large", "/announced", 413, "MESSAGE_TOO_LARGE", /at most 65536/],
  ["that have no end", "/endless", 413, "MESSAGE_TOO_LARGE", /at most 65536/],
  ["of no server's", "file:///etc/passwd", 400, "INVALID_MESSAGE", /http or https/],
  ["with a password", "https://a:b@example.org/x", 400, "INVALID_MESSAGE", /without user and password/],
  [
    "with a user somewhere",
    "https:///a@example.org/x",
    400,
    "INVALID_MESSAGE",
    /without user and password|URL/,
  ],
  ["that lead to one with a password", "/guarded", 400, "INVALID_MESSAGE", /sends elsewhere/],
])("%s are refused, and nothing is accepted", async (what, path, status, code, problem) => {
  const address = path.startsWith("/") ? `${files.origin}${path}` : path;
  const refused = await send(what, [{ url: `${address}?key=${TOKEN}` }]);
  expect(refused).toMatchObject({ status, body: { code } });
  expect(JSON.stringify(refused.body)).toMatch(problem);
  expect(JSON.stringify(refused.body) + logged()).not.toContain(TOKEN);
  expect(stranger.asked).toEqual([]);
  expect((await send(what, [])).body).toMatchObject({ duplicate: false });
});

it.each([
  ["neither bytes nor an address", {}],
  ["both", { data: "aGk=", url: "https://example.org/x" }],
])("an attachment with %s is none", async (_, attachment) => {
  const refused = await send("none", [attachment]);
  expect(refused).toMatchObject({ status: 400, body: { code: "INVALID_MESSAGE" } });
  expect(JSON.stringify(refused.body)).toContain("either data or url");
});

it("of a server in trouble fail a job's attempt, as its producer's attempts say, and hold nobody else's up", async () => {
  const { hostname, port } = new URL(stack.redis.url);
  const options = { connection: { host: hostname, port: Number(port) }, prefix: QUEUE_PREFIX };
  const inbound = new Queue(queueNames.inbound, options);
  const events = new QueueEvents(queueNames.inbound, options);
  await events.waitUntilReady();
  const add = (id: string, attachments: object[], attempts: number) => {
    const data = inboundJobSchema.parse({
      tenant: "acme",
      ...message(id, { conversation: id, attachments }),
    });
    return inbound.add("message", data, { attempts, backoff: { type: "fixed", delay: 200 } });
  };
  try {
    broken = true;
    const attachments = [{ url: `${files.origin}/sometimes` }];
    const once = await add("once", attachments, 1);
    const patient = await add("patient", attachments, 100);
    const other = await add("other", [], 1);
    await expect(once.waitUntilFinished(events)).rejects.toThrow("ATTACHMENT_FETCH_FAILED");
    await other.waitUntilFinished(events);
    broken = false;
    const { sessionId } = await patient.waitUntilFinished(events);
    expect(await stored(sessionId)).toEqual([["sometimes", "application/octet-stream", "well"]]);
  } finally {
    await events.close();
    await inbound.close();
  }
});
