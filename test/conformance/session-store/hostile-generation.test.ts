import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { constants, zstdCompressSync } from "node:zlib";
import type { Commit } from "@longshore/session-store";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { REF, TestStore } from "./support.ts";

// Whoever can write to the object store crafts generations by hand; this writer shares no code with the store's own.

const LOG_MAX = 999_999_999_999_999;

class Bytes {
  readonly #parts: Buffer[] = [];

  integer(value: number): this {
    const bytes: number[] = [];
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
    this.#parts.push(Buffer.from([...bytes, rest]));
    return this;
  }

  raw(value: Uint8Array | string): this {
    this.#parts.push(typeof value === "string" ? Buffer.from(value, "latin1") : Buffer.from(value));
    return this;
  }

  done(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

interface CraftedFrame {
  readonly offset: number;
  readonly length: number;
  readonly plainLength: number;
}

interface CraftedEntry {
  readonly path: string;
  readonly type?: number;
  readonly mode?: number;
  readonly target?: string;
  readonly size?: number;
  readonly chunks?: readonly { frame: number; offset: number; length: number; hash: Buffer }[];
}

/** A delta whose frames are in the commit record itself. Paths are written in the order given, without sharing. */
function delta(frames: readonly CraftedFrame[], entries: readonly CraftedEntry[]): Buffer {
  const bytes = new Bytes().integer(1).integer(1).integer(1).integer(frames.length);
  for (const frame of frames)
    bytes.integer(0).integer(frame.offset).integer(frame.length).integer(frame.plainLength);
  bytes.integer(entries.length);
  for (const { path, type = 0, mode = 0o644, target = "", chunks = [], size } of entries) {
    bytes.integer(0).integer(path.length).raw(path).integer(type).integer(mode).integer(2000).integer(0);
    if (type === 2) bytes.integer(target.length).raw(target);
    if (type !== 0) continue;
    bytes.integer(size ?? chunks.reduce((sum, chunk) => sum + chunk.length, 0)).integer(chunks.length);
    for (const chunk of chunks)
      bytes.integer(chunk.frame).integer(chunk.offset).integer(chunk.length).raw(chunk.hash);
  }
  return bytes.integer(0).done();
}

function record(deltaBytes: Buffer, inline: Buffer, head: object = {}, version = 1): Buffer {
  const json = Buffer.from(
    JSON.stringify({
      generation: 1,
      parent: 0,
      epoch: 1,
      nonce: "n",
      id: "crafted",
      worker: "w",
      time: new Date(0).toISOString(),
      kind: "turn",
      partial: false,
      note: {},
      entries: 1,
      totalBytes: 1,
      chain: { deltas: [1] },
      ...head,
    }),
  );
  const packed = zstdCompressSync(
    new Bytes().integer(json.length).raw(json).integer(1).raw(deltaBytes).done(),
  );
  const prefix = Buffer.from([0x4c, 0x53, 0x43, 0x52, version, 0, 0, 0, 0]);
  prefix.writeUInt32LE(packed.length, 5);
  const body = Buffer.concat([prefix, packed, inline]);
  return Buffer.concat([body, createHash("sha256").update(body).digest()]);
}

const sha256 = (content: string | Buffer): Buffer => createHash("sha256").update(content).digest();
const CONTENT = "owned";
const FRAME = zstdCompressSync(Buffer.from(CONTENT));
const GOOD_FRAME = { offset: 0, length: FRAME.length, plainLength: CONTENT.length };
const CHUNKS = [{ frame: 0, offset: 0, length: CONTENT.length, hash: sha256(CONTENT) }];
const file = (path: string): CraftedEntry => ({ path, chunks: CHUNKS });
const directory = (path: string): CraftedEntry => ({ path, type: 1, mode: 0o755 });
const link = (path: string, target: string): CraftedEntry => ({ path, type: 2, mode: 0o777, target });

describe("a hostile generation", () => {
  let test: TestStore;
  let target: string;

  beforeEach(async () => {
    test = await TestStore.open("file");
    target = join(test.directory(), "in", "here");
    mkdirSync(target, { recursive: true });
  });

  afterEach(async () => {
    await test[Symbol.asyncDispose]();
  });

  async function put(content: Buffer, generation = 1): Promise<void> {
    const key = `acme/sessions/s1/log/${String(LOG_MAX - generation).padStart(15, "0")}`;
    expect((await test.backend.putIfAbsent(key, content)).outcome).toBe("created");
  }

  async function hydrate(): Promise<void> {
    const newest = await test.store.readNewest(REF);
    using _ = await test.store.hydrate(REF, newest as Commit, target);
  }

  it("would be restored if it were not hostile: the writer of this test is right", async () => {
    await put(record(delta([GOOD_FRAME], [directory("d"), file("d/f"), link("l", "d/f")]), FRAME));
    await hydrate();
    expect(readFileSync(join(target, "d/f"), "utf8")).toBe(CONTENT);
  });

  it.each<[string, CraftedEntry[], CraftedFrame?]>([
    ["a path that leads up", [file("../escaped")]],
    ["a path that leads up inside", [directory("d"), file("d/../../escaped")]],
    ["an absolute path", [file("/escaped")]],
    ["an empty path", [file("")]],
    ["a path with an empty part", [directory("d"), file("d//f")]],
    ["a path of a dot", [file(".")]],
    ["a path with a NUL", [file("a\0b")]],
    ["a name of 256 bytes", [file("x".repeat(256))]],
    ["a path of 5,000 bytes", [file(`${"x/".repeat(2500)}x`)]],
    ["a duplicate path", [file("f"), file("f")]],
    ["paths out of order", [file("g"), file("f")]],
    ["a file below a link", [link("a", "/etc"), file("a/escaped")]],
    ["a file below a file", [file("a"), file("a/b")]],
    ["a file below nothing", [file("a/b")]],
    ["a set-id mode", [{ ...file("f"), mode: 0o4755 }]],
    ["an unknown type", [{ ...file("f"), type: 7 }]],
    ["a link without target", [link("l", "")]],
    ["a link with a NUL in its target", [link("l", "a\0b")]],
    ["a wrong size", [{ ...file("f"), size: 1 }]],
    [
      "a chunk outside of its frame",
      [{ path: "f", chunks: [{ frame: 0, offset: 3, length: 5, hash: sha256("x") }] }],
    ],
    ["a chunk of no frame", [{ path: "f", chunks: [{ frame: 9, offset: 0, length: 5, hash: sha256("x") }] }]],
    ["a wrong hash", [{ path: "f", chunks: [{ frame: 0, offset: 0, length: 5, hash: sha256("other") }] }]],
    ["a frame of 1 TiB", [file("f")], { offset: 0, length: FRAME.length, plainLength: 1024 ** 4 }],
    [
      "a frame that ends behind the record",
      [file("f")],
      { offset: 0, length: 100_000, plainLength: 100_000 },
    ],
    ["a frame that is no frame", [file("f")], { offset: 3, length: FRAME.length - 3, plainLength: 5 }],
    ["a frame shorter than said", [file("f")], { offset: 0, length: FRAME.length, plainLength: 500 }],
  ])("with %s is refused before a byte lands outside", async (_name, entries, frame = GOOD_FRAME) => {
    await put(record(delta([frame], entries), FRAME));
    await expect(hydrate()).rejects.toMatchObject({
      code: "STORE_CORRUPT",
      key: expect.stringContaining("acme/sessions/s1/log/"),
      message: expect.stringContaining("acme/sessions/s1/log/"),
    });
    expect(readdirSync(dirname(target))).toEqual(["here"]);
    expect(readdirSync(dirname(dirname(target)))).toEqual(["in"]);
  });

  it("with a bomb for a frame is refused without being unpacked", async () => {
    const bomb = zstdCompressSync(Buffer.alloc(512 * 1024 * 1024), {
      params: { [constants.ZSTD_c_compressionLevel]: 1 },
    });
    const hash = sha256(Buffer.alloc(1000));
    const frame = { offset: 0, length: bomb.length, plainLength: 1000 };
    await put(
      record(delta([frame], [{ path: "f", chunks: [{ frame: 0, offset: 0, length: 1000, hash }] }]), bomb),
    );
    const before = process.memoryUsage.rss();
    await expect(hydrate()).rejects.toMatchObject({ code: "STORE_CORRUPT" });
    expect(process.memoryUsage.rss() - before).toBeLessThan(200 * 1024 * 1024);
  });

  it("with a bomb for a head is refused", async () => {
    const deltaBytes = Buffer.alloc(128 * 1024 * 1024);
    await put(record(deltaBytes, FRAME));
    await expect(hydrate()).rejects.toMatchObject({ code: "STORE_CORRUPT" });
  });

  it("with an absurd count is refused at once", async () => {
    await put(
      record(
        new Bytes()
          .integer(0)
          .integer(0)
          .integer(2 ** 50)
          .done(),
        FRAME,
      ),
    );
    await expect(hydrate()).rejects.toMatchObject({ code: "STORE_CORRUPT" });
  });

  it("that names another generation, a table by a wrong name, or an endless chain is refused", async () => {
    const good = delta([GOOD_FRAME], [file("f")]);
    await put(record(good, FRAME, { generation: 7 }));
    await expect(hydrate()).rejects.toMatchObject({ code: "STORE_CORRUPT" });
    await put(
      record(good, FRAME, { generation: 2, chain: { full: "../../../other/secret", deltas: [] } }),
      2,
    );
    await expect(hydrate()).rejects.toMatchObject({ code: "STORE_CORRUPT" });
    const endless = Array.from({ length: 100 }, () => 3);
    await put(record(good, FRAME, { generation: 3, chain: { deltas: endless } }), 3);
    await expect(hydrate()).rejects.toMatchObject({ code: "STORE_CORRUPT" });
  });

  it("of a newer format is refused as such, and any changed byte is noticed", async () => {
    const good = record(delta([GOOD_FRAME], [file("f")]), FRAME);
    await put(record(delta([GOOD_FRAME], [file("f")]), FRAME, {}, 3));
    await expect(hydrate()).rejects.toMatchObject({ code: "STORE_FORMAT_TOO_NEW", version: 3 });
    for (let generation = 2, at = 0; at < good.length; generation++, at += 7) {
      const broken = Buffer.from(record(delta([GOOD_FRAME], [file("f")]), FRAME, { generation }));
      if (at === 4 || at >= broken.length) continue;
      broken[at] = (broken[at] ?? 0) ^ 0x10;
      await put(broken, generation);
      await expect(test.store.readNewest(REF)).rejects.toMatchObject({ code: "STORE_CORRUPT" });
    }
  });

  it("meets a directory that somebody fills with links meanwhile, and writes through none", async () => {
    await put(record(delta([GOOD_FRAME], [directory("d"), file("d/f")]), FRAME));
    const outside = test.directory();
    writeFileSync(join(outside, "f"), "mine");
    // Not empty: refused before anything is done. The race itself is tested where the descriptors are.
    symlinkSync(outside, join(target, "d"));
    await expect(hydrate()).rejects.toMatchObject({ code: "DIRECTORY_NOT_EMPTY" });
    expect(readFileSync(join(outside, "f"), "utf8")).toBe("mine");
  });
});
