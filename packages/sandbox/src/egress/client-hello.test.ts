import { Duplex } from "node:stream";
import { connect } from "node:tls";
import fc from "fast-check";
import { expect, test } from "vitest";
import { readClientHello } from "./client-hello.ts";

/** The first bytes that a real client sends. */
function helloOf(servername: string | undefined): Promise<Buffer> {
  const sent = Promise.withResolvers<Buffer>();
  const wire = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      sent.resolve(chunk);
      done();
    },
  });
  const socket = connect({ socket: wire, ...(servername === undefined ? {} : { servername }) });
  socket.on("error", () => undefined);
  return sent.promise.finally(() => socket.destroy());
}

/** The same handshake in records of one byte each. */
function inSmallRecords(hello: Buffer): Buffer {
  return Buffer.concat([...hello.subarray(5)].map((byte) => Buffer.from([22, 3, 1, 0, 1, byte])));
}

test("a real client's name is read, also from small records, and from no beginning of it", async () => {
  const hello = await helloOf("api.example.com");
  const expected = { kind: "tls", serverName: "api.example.com" };
  expect(readClientHello(hello)).toEqual(expected);
  expect(readClientHello(inSmallRecords(hello))).toEqual(expected);
  for (let length = 0; length < hello.length; length++) {
    expect(readClientHello(hello.subarray(0, length))).toEqual({ kind: "incomplete" });
  }
});

test("a client that names no server", async () => {
  expect(readClientHello(await helloOf(undefined))).toEqual({ kind: "tls", serverName: undefined });
});

test.each([
  "CONNECT a:1 HTTP/1.1\r\n\r\n",
  "SSH-2.0-x\r\n",
  "\x16\x02\x00\x00\x05abcde",
  "\x16\x03\x01\x00\x00",
])("%j is no TLS", (text) => expect(readClientHello(Buffer.from(text, "latin1"))).toEqual({ kind: "other" }));

test("whatever comes, it answers", async () => {
  const hello = await helloOf("api.example.com");
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(hello.length - 1), fc.nat(255)), { maxLength: 4 }), (changes) => {
      const bytes = Buffer.from(hello);
      for (const [at, byte] of changes) bytes[at] = byte;
      expect(["tls", "other", "incomplete"]).toContain(readClientHello(bytes).kind);
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      expect(["tls", "other", "incomplete"]).toContain(readClientHello(Buffer.from(bytes)).kind);
    }),
  );
});
