import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { RangeReader, type RangeRequest } from "./range-reader.ts";

const BODY = Buffer.from("0123456789");
const HEAD = `HTTP/1.1 206 Partial Content\r\nContent-Length: ${BODY.length}\r\n\r\n`;
const NEVER = new AbortController().signal;

/** What a server does with the request that it has read; `count`: of the connection, from 1. */
type Answer = (socket: Socket, request: string, count: number) => void;

describe("RangeReader", () => {
  let server: Server;
  let answer: Answer;
  let connections: number;
  let reader: RangeReader;
  const sockets = new Set<Socket>();

  beforeEach(async () => {
    connections = 0;
    reader = new RangeReader({ connections: 2 });
    server = createServer((socket) => {
      connections++;
      sockets.add(socket);
      let count = 0;
      let text = "";
      socket.on("error", () => undefined);
      socket.on("data", (data) => {
        text += data.toString("latin1");
        if (!text.endsWith("\r\n\r\n")) return;
        const request = text;
        text = "";
        answer(socket, request, ++count);
      });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
  });

  afterEach(async () => {
    reader.close();
    for (const socket of sockets) socket.destroy();
    sockets.clear();
    server.close();
    await once(server, "close");
  });

  function request(): RangeRequest {
    const { port } = server.address() as AddressInfo;
    const headers = { host: `127.0.0.1:${port}`, range: "bytes=0-9" };
    return { protocol: "http:", hostname: "127.0.0.1", port, method: "GET", path: "/b/k%20y", headers };
  }

  async function read(into: Buffer = Buffer.alloc(BODY.length), signal = NEVER): Promise<string | false> {
    return (await reader.read(request(), into, signal)) && into.toString("latin1");
  }

  it("sends the request as it was signed", async () => {
    let seen = "";
    answer = (socket, text) => {
      seen = text;
      socket.write(HEAD + BODY.toString());
    };
    const into = Buffer.alloc(BODY.length);
    await reader.read({ ...request(), query: { "x-id": "GetObject", v: "a/b" } }, into, NEVER);
    expect(seen).toBe(
      `GET /b/k%20y?x-id=GetObject&v=a%2Fb HTTP/1.1\r\nhost: ${request().headers.host}\r\nrange: bytes=0-9\r\n\r\n`,
    );
  });

  it("reads bodies one after another through one connection, into shared memory too", async () => {
    answer = (socket, _, count) => socket.write(HEAD + String(count).repeat(BODY.length));
    for (const expected of ["1111111111", "2222222222", "3333333333"])
      expect(await read(Buffer.from(new SharedArrayBuffer(BODY.length)))).toBe(expected);
    expect(connections).toBe(1);
  });

  it("takes an answer in whatever pieces it comes", async () => {
    answer = async (socket) => {
      socket.setNoDelay(true);
      for (const byte of Buffer.from(HEAD + BODY.toString())) {
        await new Promise<void>((resolve) => socket.write(Buffer.of(byte), () => setImmediate(resolve)));
      }
    };
    expect(await read()).toBe(BODY.toString());
  });

  it.each([
    ["another status", `HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n${BODY}`],
    ["an error", "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n"],
    ["another length", `HTTP/1.1 206 P\r\nContent-Length: 11\r\n\r\n${BODY}1`],
    ["two lengths", `HTTP/1.1 206 P\r\nContent-Length: 12\r\nContent-Length: 10\r\n\r\n${BODY}`],
    ["no length", `HTTP/1.1 206 P\r\n\r\n${BODY}`],
    ["chunks", `HTTP/1.1 206 P\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n`],
    ["more than it announces", `${HEAD}${BODY}more`],
    ["an older protocol", `HTTP/1.0 206 P\r\nContent-Length: 10\r\n\r\n${BODY}`],
    ["a head without end", `${HEAD.slice(0, -2)}x: ${"y".repeat(40_000)}`],
    ["no HTTP at all", "SSH-2.0-OpenSSH_9.2\r\n\r\n"],
    ["names that are none", "HTTP/1.1 206 P\r\n\0 \xff: 1\r\n:\r\nx\r\n\r\n0123456789"],
  ])("gives up at %s, and uses the connection no more", async (_, text) => {
    answer = (socket, __, count) =>
      socket.write(count === 1 && connections === 1 ? text : HEAD + BODY.toString());
    await expect(read()).resolves.toBe(false);
    expect(await read()).toBe(BODY.toString());
    expect(connections).toBe(2);
  });

  it.each([
    ["in the head", "HTTP/1.1 206 Part"],
    ["in the body", HEAD + BODY.toString().slice(0, 9)],
    ["before a byte", ""],
  ])("an answer that ends %s is an error", async (_, text) => {
    answer = (socket) => socket.end(text);
    await expect(read()).rejects.toThrow("the connection ended before the answer did");
    answer = (socket) =>
      text === "" ? socket.resetAndDestroy() : socket.write(text, () => socket.resetAndDestroy());
    await expect(read()).rejects.toThrow(/ECONNRESET|ended before/);
  });

  it("a server that is not there is an error", async () => {
    const gone = request();
    server.close();
    await once(server, "close");
    await expect(reader.read(gone, Buffer.alloc(1), NEVER)).rejects.toMatchObject({ code: "ECONNREFUSED" });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
  });

  it("a connection that the server closes between two answers, or says it will, is replaced", async () => {
    answer = (socket) => socket.write(HEAD.replace("\r\n", "\r\nConnection: Close\r\n") + BODY.toString());
    expect(await read()).toBe(BODY.toString());
    answer = (socket) => socket.write(HEAD + BODY.toString());
    expect(await read()).toBe(BODY.toString());
    expect(connections).toBe(2);
    const idle = [...sockets].at(-1) as Socket;
    const closed = once(idle, "close");
    idle.end();
    await closed;
    expect(await read()).toBe(BODY.toString());
    expect(connections).toBe(3);
  });

  it("a connection that says something unasked is replaced", async () => {
    answer = (socket) => socket.write(HEAD + BODY.toString());
    expect(await read()).toBe(BODY.toString());
    const idle = [...sockets].at(-1) as Socket;
    const closed = once(idle, "close");
    idle.write(`${HEAD}forged....`);
    await closed;
    expect(await read()).toBe(BODY.toString());
  });

  it("ends at once when it is told to, and writes no byte from then on", async () => {
    const stop = new AbortController();
    const into = Buffer.alloc(BODY.length);
    const received = Promise.withResolvers<Socket>();
    answer = (socket) => {
      socket.write(HEAD);
      received.resolve(socket);
    };
    const reading = read(into, stop.signal);
    const socket = await received.promise;
    stop.abort(new Error("no more"));
    await expect(reading).rejects.toThrow("no more");
    // It was reset under the server's hands, or is about to be.
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.write(BODY);
    await closed;
    expect(into).toEqual(Buffer.alloc(BODY.length));
    await expect(read(into, stop.signal)).rejects.toThrow("no more");
  });

  it("has no more connections than it may; who waits for one can be told to stop", async () => {
    const held: Socket[] = [];
    const two = Promise.withResolvers<void>();
    answer = (socket) => {
      if (held.push(socket) === 2) two.resolve();
    };
    const first = [read(), read()];
    await two.promise;
    const stop = new AbortController();
    const stopped = read(undefined, stop.signal);
    const third = read();
    stop.abort(new Error("no more"));
    await expect(stopped).rejects.toThrow("no more");
    answer = (socket) => socket.write(HEAD + BODY.toString());
    // One connection that becomes free is enough for who still waits.
    held[0]?.write(HEAD + BODY.toString());
    expect(await third).toBe(BODY.toString());
    held[1]?.write(HEAD + BODY.toString());
    expect(await Promise.all(first)).toEqual([BODY.toString(), BODY.toString()]);
    expect(connections).toBe(2);
  });
});
