import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import {
  Agent,
  createServer as createHttp,
  type IncomingMessage,
  request,
  type ServerResponse,
} from "node:http";
import { createServer as createHttps } from "node:https";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { connect as connectTls } from "node:tls";
import { Dialer, EgressProxy, type EgressRecord } from "@longshore/sandbox";
import type { EgressDefinition } from "@longshore/shared";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";

const SECRET = "sk-the-real-key";
const HOST = "api.example.com";

let directory: string;
let ca: string;
let plain: Server;
let secure: Server;
const portOf = (server: Server) => (server.address() as AddressInfo).port;
/** What the upstreams answer; each test has its own. */
let upstream: (request: IncomingMessage, response: ServerResponse) => void;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "longshore-egress-"));
  const key = join(directory, "key.pem");
  const certificate = join(directory, "certificate.pem");
  execFileSync(
    "openssl",
    [
      ...[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
      ],
      ...[
        "-subj",
        `/CN=${HOST}`,
        "-addext",
        `subjectAltName=DNS:${HOST},IP:127.0.0.1`,
        "-keyout",
        key,
        "-out",
        certificate,
      ],
    ],
    { stdio: "ignore" },
  );
  ca = readFileSync(certificate, "utf8");
  plain = createHttp((incoming, response) => upstream(incoming, response));
  secure = createHttps({ key: readFileSync(key), cert: ca }, (incoming, response) =>
    upstream(incoming, response),
  );
  for (const server of [plain, secure]) await once(server.listen(0, "127.0.0.1"), "listening");
});
afterAll(() => {
  plain.close();
  secure.close();
  rmSync(directory, { recursive: true });
});

const open: (() => void)[] = [];
afterEach(() => {
  for (const close of open.splice(0)) close();
});

interface Given {
  readonly allow?: readonly string[];
  readonly limits?: Partial<EgressDefinition["limits"]>;
  readonly credentials?: EgressDefinition["credentials"];
  readonly idle?: number;
  readonly resolve?: (host: string) => Promise<readonly string[]>;
  readonly dialer?: Dialer;
  /** Whether addresses are judged as in the product. */
  readonly isStrict?: boolean;
}

/** A proxy behind a loopback port, as the helper has it in a sandbox. */
async function start(given: Given = {}) {
  const records: EgressRecord[] = [];
  const dialer = new Dialer({
    resolve: given.resolve ?? (async () => ["127.0.0.1"]),
    ...(given.isStrict === true ? {} : { mayDial: () => true }),
  });
  const proxy = new EgressProxy({
    definition: {
      allow: [...(given.allow ?? [`${HOST}:${portOf(plain)}`, `${HOST}:${portOf(secure)}`])],
      credentials: given.credentials ?? [],
      limits: { requests: 1_000, connections: 64, bytes: 1024 ** 3, ...given.limits },
      idle: given.idle ?? 60_000,
    },
    onDecision: (record) => records.push(record),
    dialer: given.dialer ?? dialer,
    upstreamCa: ca,
  });
  const server = createServer({ allowHalfOpen: true }, proxy.serve);
  await once(server.listen(0, "127.0.0.1"), "listening");
  open.push(() => {
    proxy.close();
    server.close();
  });
  return { proxy, port: portOf(server), records, decisions: () => records.map(({ decision }) => decision) };
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

async function ask(
  port: number,
  path: string,
  options: { method?: string; headers?: Record<string, string>; body?: string; agent?: Agent } = {},
): Promise<Answer> {
  const { body, ...rest } = options;
  const asked = request({ host: "127.0.0.1", port, path, agent: false, ...rest });
  asked.end(body);
  const [response] = (await once(asked, "response")) as [IncomingMessage];
  return { status: response.statusCode ?? 0, headers: response.headers, body: await text(response) };
}

/** Sends CONNECT, and gives the socket and the head of the answer. */
async function tunnel(port: number, authority: string): Promise<{ socket: Socket; head: string }> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  socket.on("error", () => undefined);
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  const [chunk] = (await once(socket, "data")) as [Buffer];
  return { socket, head: chunk.toString() };
}

test("an absolute URL of an allowed host is asked for, with its own Host and no header of the connection", async () => {
  const seen = Promise.withResolvers<IncomingMessage["headers"]>();
  upstream = (incoming, response) => {
    seen.resolve(incoming.headers);
    response.setHeader("proxy-authenticate", "x");
    response.setHeader("x-answer", "1");
    response.end(incoming.url);
  };
  const { port, records } = await start();
  const answer = await ask(port, `http://${HOST}:${portOf(plain)}/a?b=c`, {
    headers: {
      host: "other.example.com",
      "x-kept": "1",
      "x-dropped": "1",
      connection: "x-dropped",
      te: "trailers",
    },
  });
  expect(answer).toMatchObject({ status: 200, body: "/a?b=c", headers: { "x-answer": "1" } });
  expect(answer.headers).not.toHaveProperty("proxy-authenticate");
  expect(await seen.promise).toMatchObject({ host: `${HOST}:${portOf(plain)}`, "x-kept": "1" });
  expect(await seen.promise).not.toHaveProperty("x-dropped");
  expect(await seen.promise).not.toHaveProperty("te");
  expect(records).toEqual([{ decision: "allowed", host: HOST, port: portOf(plain) }]);
});

test("bodies stream both ways before they end, and one without a length stays one", async () => {
  upstream = (incoming, response) => {
    response.write("head ");
    incoming.pipe(response);
  };
  const { port } = await start();
  const asked = request({
    ...{ host: "127.0.0.1", port, path: `http://${HOST}:${portOf(plain)}/`, agent: false, method: "DELETE" },
    headers: { "transfer-encoding": "chunked" },
  });
  asked.write("one ");
  const [response] = (await once(asked, "response")) as [IncomingMessage];
  response.setEncoding("utf8");
  let received = "";
  while (!received.includes("one")) received += (await once(response, "data"))[0];
  asked.end("two");
  for await (const part of response) received += part;
  expect(received).toBe("head one two");
});

test.each([
  ["http://other.example.com/", 403, "denied_host"],
  ["http://127.0.0.1/", 403, "denied_host"],
  ["http://2130706433/", 403, "denied_host"],
  [`http://${HOST}:1/`, 403, "denied_host"],
  [`https://${HOST}/`, 400, "malformed"],
  [`http://user:secret@${HOST}/`, 400, "malformed"],
  ["ftp://example.com/", 400, "malformed"],
  ["/anything", 404, "denied_host"],
])("%s is refused with %i", async (url, status, decision) => {
  const { port, decisions } = await start();
  expect((await ask(port, url)).status).toBe(status);
  expect(decisions()).toEqual([decision]);
});

test("a tunnel for TLS with the host's name carries bytes both ways", async () => {
  upstream = (_incoming, response) => response.end("over TLS");
  const { port, decisions } = await start();
  const { socket, head } = await tunnel(port, `${HOST}:${portOf(secure)}`);
  expect(head).toMatch(/^HTTP\/1.1 200/);
  const tls = connectTls({ socket, servername: HOST, ca });
  tls.write(`GET / HTTP/1.1\r\nHost: ${HOST}\r\nConnection: close\r\n\r\n`);
  expect(await text(tls)).toContain("over TLS");
  expect(decisions()).toEqual(["allowed"]);
});

test("plain HTTP in a tunnel is asked of the host with its own name, request after request", async () => {
  const hosts: unknown[] = [];
  upstream = (incoming, response) => {
    hosts.push(incoming.headers.host);
    response.end(`served ${incoming.url}`);
  };
  const { port, decisions } = await start();
  const authority = `${HOST}:${portOf(plain)}`;
  const { socket } = await tunnel(port, authority);
  socket.write("GET /one HTTP/1.1\r\nHost: other.example.com\r\n\r\n");
  expect(String((await once(socket, "data"))[0])).toMatch(/^HTTP\/1.1 200/);
  socket.write("GET /two HTTP/1.1\r\nHost: other.example.com\r\nConnection: close\r\n\r\n");
  expect(await text(socket)).toContain("served /two");
  expect([hosts, decisions()]).toEqual([
    [authority, authority],
    ["allowed", "allowed"],
  ]);
});

test.each([
  ["other.example.com:443", 403, "denied_host"],
  [`${HOST}:22`, 403, "denied_host"],
  ["127.0.0.1:443", 403, "denied_host"],
  ["[::1]:443", 400, "malformed"],
  ["/", 400, "malformed"],
])("CONNECT %s is refused with %i", async (authority, status, decision) => {
  const { port, decisions } = await start();
  const { socket, head } = await tunnel(port, authority);
  expect(head).toContain(` ${status} `);
  expect(decisions()).toEqual([decision]);
  socket.destroy();
});

test.each([
  ["another CONNECT", "denied_tunnel", "CONNECT other.example.com:443 HTTP/1.1\r\n\r\n"],
  [
    "a request for another host",
    "denied_tunnel",
    "GET http://other.example.com/ HTTP/1.1\r\nHost: x\r\n\r\n",
  ],
  ["another protocol", "malformed", "SSH-2.0-client\r\n"],
  ["another one", "denied_tunnel", "\x00\x01"],
  ["TLS for another host", "denied_tunnel", undefined],
])("of %s in a tunnel no byte gets out (%s)", async (_, decision, bytes) => {
  let received = 0;
  const target = createServer((socket) => {
    socket.on("data", (chunk) => {
      received += chunk.length;
    });
  });
  await once(target.listen(0, "127.0.0.1"), "listening");
  open.push(() => target.close());
  const { port, decisions } = await start({ allow: [`${HOST}:${portOf(target)}`] });
  const { socket, head } = await tunnel(port, `${HOST}:${portOf(target)}`);
  expect(head).toMatch(/^HTTP\/1.1 200/);
  const closed = once(socket, "close");
  if (bytes === undefined)
    connectTls({ socket, servername: "other.example.com" }).on("error", () => undefined);
  else socket.end(bytes);
  await closed;
  expect([decisions(), received]).toEqual([[decision], 0]);
});

test.each([[["127.0.0.1"]], [["169.254.169.254"]], [["::ffff:8.8.8.8"]], [["8.8.8.8", "10.0.0.1"]]])(
  "a name that leads to %j is refused",
  async (addresses) => {
    const { port, decisions } = await start({ isStrict: true, resolve: async () => addresses });
    expect((await ask(port, `http://${HOST}:${portOf(plain)}/`)).status).toBe(403);
    expect(decisions()).toEqual(["denied_address"]);
  },
);

test("a name is looked up once for each connection: the address that was checked is dialled", async () => {
  upstream = (_incoming, response) => response.end("served");
  let asked = 0;
  const { port } = await start({
    resolve: async () => {
      asked++;
      return asked === 1 ? ["127.0.0.1"] : ["203.0.113.1"];
    },
  });
  expect((await ask(port, `http://${HOST}:${portOf(plain)}/`)).body).toBe("served");
  expect(asked).toBe(1);
});

const credentials = (header: string, path = ""): EgressDefinition["credentials"] => [
  {
    upstream: `https://${HOST}:${portOf(secure)}${path}`,
    as: "/api",
    header,
    secret: SECRET,
    variable: "API_URL",
    private: false,
  },
];

test.each([
  ["x-api-key", { "x-api-key": "placeholder" }, { "x-api-key": SECRET }],
  ["authorization", { authorization: "Bearer placeholder" }, { authorization: `Bearer ${SECRET}` }],
  ["authorization", { authorization: "Token placeholder" }, { authorization: `Token ${SECRET}` }],
  // As after an OAuth exchange: the agent has a key of its own by then.
  ["authorization", { "x-api-key": "its-own" }, { "x-api-key": "its-own", authorization: undefined }],
  ["x-api-key", {}, { "x-api-key": undefined }],
])("of %s, %j becomes %j", async (header, sent, expected) => {
  const seen = Promise.withResolvers<IncomingMessage>();
  upstream = (incoming, response) => {
    seen.resolve(incoming);
    response.end("done");
  };
  const { port, records } = await start({ credentials: credentials(header, "/base") });
  const answer = await ask(port, "/api/v1/messages?beta=1", { method: "POST", headers: sent, body: "{}" });
  expect(answer).toMatchObject({ status: 200, body: "done" });
  const { headers, url } = await seen.promise;
  expect(url).toBe("/base/v1/messages?beta=1");
  expect(headers.host).toBe(`${HOST}:${portOf(secure)}`);
  expect({
    ...headers,
    authorization: headers.authorization,
    "x-api-key": headers["x-api-key"],
  }).toMatchObject(expected);
  expect(JSON.stringify(records)).not.toContain(SECRET);
});

test.each([
  "/api/../admin",
  "/api/%2e%2e/admin",
  "/api/a/..",
  "/api/a%2f..%2fb",
  "/api/..\\x",
  "/apis/x",
  "/api/./x",
])("%s does not leave what the credential is for", async (path) => {
  upstream = (_incoming, response) => response.end("secret of the upstream");
  const { port } = await start({ credentials: credentials("x-api-key", "/base") });
  const { status, body } = await ask(port, path, { headers: { "x-api-key": "placeholder" } });
  expect(status).toBeGreaterThanOrEqual(400);
  expect(body).not.toContain("secret of the upstream");
});

test("TRACE, which would come back with the credential, is refused", async () => {
  const { port } = await start({ credentials: credentials("x-api-key") });
  expect((await ask(port, "/api/x", { method: "TRACE", headers: { "x-api-key": "p" } })).status).toBe(405);
});

test("a server that can't prove to be the upstream gets no credential", async () => {
  let asked = 0;
  upstream = (_incoming, response) => {
    asked++;
    response.end();
  };
  const [credential] = credentials("x-api-key");
  if (credential === undefined) throw new Error("no credential");
  const upstreamUrl = `https://other.example.com:${portOf(secure)}`;
  const { port, decisions } = await start({ credentials: [{ ...credential, upstream: upstreamUrl }] });
  expect((await ask(port, "/api/x", { headers: { "x-api-key": "p" } })).status).toBe(502);
  expect([asked, decisions()]).toEqual([0, ["unreachable"]]);
});

test.each([
  ["a public name that leads inside", HOST, false, "127.0.0.1", "denied_address"],
  ["the same, where the operator says that it does", HOST, true, "127.0.0.1", "credential"],
  ["an address that the operator wrote", "127.0.0.1", true, undefined, "credential"],
  ["a private one that leads to a cloud's metadata", HOST, true, "169.254.169.254", "denied_address"],
])("an upstream by %s", async (_what, host, isPrivate, address, decision) => {
  const seen: unknown[] = [];
  upstream = (incoming, response) => {
    seen.push(incoming.headers["x-api-key"]);
    response.end("done");
  };
  const [credential] = credentials("x-api-key");
  if (credential === undefined) throw new Error("no credential");
  const { port, decisions } = await start({
    credentials: [{ ...credential, upstream: `https://${host}:${portOf(secure)}`, private: isPrivate }],
    dialer: new Dialer(address === undefined ? {} : { resolve: async () => [address] }),
  });
  const { status } = await ask(port, "/api/x", { headers: { "x-api-key": "placeholder" } });
  expect([status, decisions()]).toEqual([decision === "credential" ? 200 : 403, [decision]]);
  expect(seen).toEqual(decision === "credential" ? [SECRET] : []);
});

test("requests of one activation share a connection to an upstream while it is good, and no others", async () => {
  const sockets: Socket[] = [];
  upstream = (incoming, response) => {
    if (!sockets.includes(incoming.socket)) sockets.push(incoming.socket);
    if (incoming.url === "/last") response.setHeader("connection", "close");
    response.end(incoming.url);
  };
  const given = { credentials: credentials("x-api-key") };
  const first = await start(given);
  const headers = { "x-api-key": "placeholder" };
  for (const name of ["1", "2", "3"])
    expect((await ask(first.port, `/api/${name}`, { headers, method: "POST", body: name })).body).toBe(
      `/${name}`,
    );
  expect(sockets).toHaveLength(1);
  expect(first.decisions()).toEqual(["credential", "credential", "credential"]);
  // Another activation has its own.
  const second = await start(given);
  await ask(second.port, "/api/1", { headers });
  expect(sockets).toHaveLength(2);
  // Ended by the upstream while nothing was asked, or with an answer: the next request has a new one.
  const ended = once(sockets[0] as Socket, "close");
  sockets[0]?.end();
  await ended;
  expect((await ask(first.port, "/api/4", { headers })).status).toBe(200);
  expect((await ask(first.port, "/api/last", { headers })).status).toBe(200);
  expect((await ask(first.port, "/api/5", { headers })).status).toBe(200);
  expect(sockets).toHaveLength(4);
  // None outlives the activation.
  const last = once(sockets[3] as Socket, "close");
  first.proxy.close();
  await last;
});

test("an answer that is cut off, or that nobody waits for, spoils its connection only", async () => {
  let cut = true;
  const sockets = new Set<Socket>();
  upstream = (incoming, response) => {
    sockets.add(incoming.socket);
    if (!cut) {
      response.end("whole");
      return;
    }
    response.writeHead(200, { "content-length": "100" });
    response.write("half", () => incoming.socket.destroy());
  };
  const { port } = await start({ credentials: credentials("x-api-key") });
  await expect(ask(port, "/api/x")).rejects.toThrow();
  cut = false;
  expect((await ask(port, "/api/x")).body).toBe("whole");
  upstream = (incoming, response) => {
    sockets.add(incoming.socket);
    response.write("begun");
  };
  const asked = request({ host: "127.0.0.1", port, path: "/api/x", agent: false }).end();
  const [answer] = (await once(asked, "response")) as [IncomingMessage];
  const [given] = [...sockets].slice(-1) as [Socket];
  const closed = once(given, "close");
  answer.destroy();
  await closed;
  upstream = (_incoming, response) => response.end("again");
  expect((await ask(port, "/api/x")).body).toBe("again");
});

test("what an agent may ask for itself never leads inside, also where an upstream does", async () => {
  const [credential] = credentials("x-api-key");
  if (credential === undefined) throw new Error("no credential");
  const { port, decisions } = await start({
    isStrict: true,
    credentials: [{ ...credential, private: true }],
  });
  expect((await ask(port, `http://${HOST}:${portOf(plain)}/`)).status).toBe(403);
  expect(decisions()).toEqual(["denied_address"]);
});

test("requests, connections and bytes are limited", async () => {
  upstream = (_incoming, response) => response.end("x".repeat(1_000));
  const url = `http://${HOST}:${portOf(plain)}/`;
  const few = await start({ limits: { requests: 2 } });
  const statuses = [];
  for (let index = 0; index < 3; index++) statuses.push((await ask(few.port, url)).status);
  expect(statuses).toEqual([200, 200, 429]);

  const narrow = await start({ limits: { connections: 1 } });
  const first = await tunnel(narrow.port, `${HOST}:${portOf(secure)}`);
  expect((await ask(narrow.port, url)).status).toBe(503);
  first.socket.destroy();

  const small = await start({ limits: { bytes: 2_000 } });
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  open.push(() => agent.destroy());
  expect((await ask(small.port, url, { agent })).status).toBe(200);
  await expect(ask(small.port, url, { agent }).then(({ body }) => body.length)).rejects.toThrow();
  expect(small.decisions()).toContain("limit");
});

test("what carries nothing is ended after the idle time, and all of it when the activation ends", async () => {
  const idle = await start({ idle: 50 });
  const quiet = await tunnel(idle.port, `${HOST}:${portOf(secure)}`);
  await once(quiet.socket, "end");

  const { proxy, port } = await start();
  const { socket } = await tunnel(port, `${HOST}:${portOf(secure)}`);
  const ended = once(socket, "end");
  proxy.close();
  await ended;
  await expect(ask(port, `http://${HOST}:${portOf(plain)}/`)).rejects.toThrow();
});

test.each([
  "NONSENSE\r\n\r\n",
  `GET http://${HOST}/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n`,
])("%j is answered with 400", async (bytes) => {
  const { port, decisions } = await start();
  const socket = connect(port, "127.0.0.1");
  socket.end(bytes);
  expect(await text(socket)).toMatch(/^HTTP\/1.1 400/);
  expect(decisions()).toEqual(["malformed"]);
});

test("the environment names it", async () => {
  const { proxy } = await start({ credentials: credentials("x-api-key") });
  expect(proxy.environment()).toMatchObject({
    HTTP_PROXY: "http://127.0.0.1:3128",
    HTTPS_PROXY: "http://127.0.0.1:3128",
    NODE_USE_ENV_PROXY: "1",
    API_URL: "http://127.0.0.1:3128/api",
  });
  expect((await start({ allow: [] })).proxy.environment()).toEqual({});
});
