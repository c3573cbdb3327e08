import { randomBytes } from "node:crypto";
import { zstdCompressSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { BadFrameError, packedBytesMax, packFrame, unpackFrame } from "./frame-codec.ts";

const MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);

describe("a frame", () => {
  it.each([
    ["nothing", Buffer.alloc(0)],
    ["one byte", Buffer.from("x")],
    ["text", Buffer.from("to be or not to be ".repeat(5000))],
    ["random bytes", randomBytes(1_300_000)],
    ["few random bytes", randomBytes(100)],
    ["a zstd frame", zstdCompressSync(randomBytes(300_000))],
    ["random bytes that begin like a zstd frame", Buffer.concat([MAGIC, randomBytes(400_000)])],
    ["text between random bytes", Buffer.concat([randomBytes(200_000), Buffer.alloc(600_000, "text ")])],
  ])("of %s is unpacked as it was", (_, plain) => {
    const packed = packFrame(plain);
    expect(packed.length).toBeLessThanOrEqual(packedBytesMax(plain.length));
    expect(unpackFrame(Buffer.from(packed), plain.length).equals(plain)).toBe(true);
  });

  it("holds incompressible bytes as they are, and makes others shorter", () => {
    const plain = randomBytes(1_000_000);
    expect(packFrame(plain)).toBe(plain);
    expect(packFrame(Buffer.alloc(1_000_000, "text ")).length).toBeLessThan(1000);
  });

  it.each([
    ["unpacks to more", zstdCompressSync(Buffer.alloc(64 * 1024 * 1024)), 1000],
    ["unpacks to less", zstdCompressSync(Buffer.alloc(10)), 1000],
    ["is no zstd frame", randomBytes(10), 1000],
    [
      "has the plain length and is no zstd frame but for its beginning",
      Buffer.concat([MAGIC, randomBytes(96)]),
      100,
    ],
  ])("that %s is refused", (_, packed, plainLength) => {
    expect(() => unpackFrame(packed, plainLength)).toThrow(BadFrameError);
  });
});
