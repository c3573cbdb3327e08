import { once } from "node:events";
import fc from "fast-check";
import { expect, test } from "vitest";
import { EngineProtocolError } from "../errors.ts";
import { AttachDemultiplexer } from "./demultiplexer.ts";

function frame(stream: number, content: Uint8Array): Buffer {
  const header = Buffer.alloc(8);
  header[0] = stream;
  header.writeUInt32BE(content.length, 4);
  return Buffer.concat([header, content]);
}

async function take(bytes: Buffer, cuts: readonly number[]) {
  const stderr: Buffer[] = [];
  const stdout: Buffer[] = [];
  const demultiplexer = new AttachDemultiplexer((chunk) => stderr.push(Buffer.from(chunk)));
  demultiplexer.stdout.on("data", (chunk: Buffer) => stdout.push(Buffer.from(chunk)));
  const ended = once(demultiplexer.stdout, "end");
  let start = 0;
  for (const cut of [...cuts, bytes.length].sort((a, b) => a - b)) {
    demultiplexer.write(bytes.subarray(start, cut));
    start = cut;
  }
  demultiplexer.end();
  await ended;
  return { stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr) };
}

test("frames come apart wherever the bytes are cut", async () => {
  const content = fc.uint8Array({ maxLength: 300 });
  const frames = fc.array(fc.tuple(fc.constantFrom(1, 2), content), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(frames, fc.array(fc.nat(4000), { maxLength: 10 }), async (parts, cuts) => {
      const bytes = Buffer.concat(parts.map(([stream, part]) => frame(stream, part)));
      const of = (wanted: number) =>
        Buffer.concat(parts.filter(([stream]) => stream === wanted).map(([, p]) => p));
      const seen = await take(
        bytes,
        cuts.map((cut) => Math.min(cut, bytes.length)),
      );
      expect(seen.stdout.equals(of(1))).toBe(true);
      expect(seen.stderr.equals(of(2))).toBe(true);
    }),
    { numRuns: 200 },
  );
});

test.each([
  ["an unknown stream", Buffer.from([3, 0, 0, 0, 0, 0, 0, 1, 65])],
  ["bytes that must be zero", Buffer.from([1, 9, 0, 0, 0, 0, 0, 1, 65])],
  ["text", Buffer.from("HTTP/1.1 200 OK\r\n")],
])("%s fails the streams and is no output", async (_name, garbage) => {
  const demultiplexer = new AttachDemultiplexer(() => undefined);
  demultiplexer.on("error", () => undefined);
  const seen: Buffer[] = [];
  demultiplexer.stdout.on("data", (chunk: Buffer) => seen.push(chunk));
  const failed = once(demultiplexer.stdout, "error");
  demultiplexer.write(Buffer.concat([frame(1, Buffer.from("good")), garbage]));
  const [error] = await failed;
  expect(error).toBeInstanceOf(EngineProtocolError);
  expect(Buffer.concat(seen).toString()).toMatch(/^(good)?$/);
});

test("a stream that ends inside a frame fails", async () => {
  const demultiplexer = new AttachDemultiplexer(() => undefined);
  demultiplexer.on("error", () => undefined);
  demultiplexer.stdout.resume();
  const failed = once(demultiplexer.stdout, "error");
  demultiplexer.end(frame(1, Buffer.from("good")).subarray(0, 10));
  expect((await failed)[0]).toBeInstanceOf(EngineProtocolError);
});

test("nobody reading means that no more is taken; standard error needs no reader", async () => {
  let stderrBytes = 0;
  const demultiplexer = new AttachDemultiplexer((chunk) => {
    stderrBytes += chunk.length;
  });
  const chunk = Buffer.alloc(32 * 1024, "x");
  for (let count = 0; count < 100; count++) demultiplexer.write(frame(2, chunk));
  expect(stderrBytes).toBe(100 * chunk.length);

  for (let count = 0; count < 100; count++) demultiplexer.write(frame(1, chunk));
  expect(demultiplexer.writableNeedDrain).toBe(true);
  expect(demultiplexer.stdout.readableLength).toBeLessThanOrEqual(128 * 1024);

  let stdoutBytes = 0;
  demultiplexer.end();
  for await (const part of demultiplexer.stdout) stdoutBytes += (part as Buffer).length;
  expect(stdoutBytes).toBe(100 * chunk.length);
});

test("output that is thrown away does not hold back what follows", async () => {
  const demultiplexer = new AttachDemultiplexer(() => undefined);
  demultiplexer.write(frame(1, Buffer.alloc(200 * 1024)));
  demultiplexer.stdout.destroy();
  const finished = once(demultiplexer, "finish");
  demultiplexer.end(frame(1, Buffer.alloc(200 * 1024)));
  await finished;
});
