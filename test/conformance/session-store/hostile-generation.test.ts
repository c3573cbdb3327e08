import { linkSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { constants, zstdCompressSync } from "node:zlib";
import type { Commit } from "@longshore/session-store";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  Bytes,
  CONTENT,
  type CraftedEntry,
  type CraftedFrame,
  delta,
  directory,
  FRAME,
  file,
  foreignRecord,
  GOOD_FRAME,
  link,
  OWN_RECORD,
  packSource,
  record,
  recordKey,
  sha256,
  table,
} from "./crafted-generation.ts";
import { fingerprint, meta, REF, TestStore } from "./support.ts";

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
    expect((await test.backend.putIfAbsent(recordKey(generation), content)).outcome).toBe("created");
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

  it.each<[string, Buffer]>([
    ["leads up", foreignRecord("../../../other/sessions/victim", 1)],
    ["is of another tenant", foreignRecord("../../other/sessions/victim", 1)],
    ["is empty", foreignRecord("", 1)],
    ["is hidden", foreignRecord(".staging", 1)],
    ["has a slash", foreignRecord("a/b", 1)],
    ["has a NUL", foreignRecord("a\0", 1)],
    ["is too long", foreignRecord("x".repeat(129), 1)],
    ["is of no known kind", new Bytes().integer(4).integer(1).done()],
  ])("with content of a session whose name %s is refused", async (_name, source) => {
    await put(record(delta([GOOD_FRAME], [file("f")], source), FRAME, {}, 2));
    await expect(hydrate()).rejects.toMatchObject({
      code: "STORE_CORRUPT",
      key: expect.stringContaining("acme/sessions/s1/log/"),
    });
    expect(readdirSync(target)).toEqual([]);
  });

  it("with content of a session that is not there, or that has less of it, is refused by name", async () => {
    await put(record(delta([GOOD_FRAME], [file("f")], foreignRecord("s2", 1)), FRAME, {}, 2));
    await expect(hydrate()).rejects.toMatchObject({ code: "GENERATION_NOT_FOUND" });
    expect(readdirSync(target)).toEqual([]);
    await test.store.commitUnchanged({ tenant: "acme", sessionId: "s2" }, undefined, meta());
    await expect(hydrate()).rejects.toMatchObject({
      code: "STORE_CORRUPT",
      key: expect.stringContaining("acme/sessions/s2/log/"),
    });
  });

  it.each([[{ sessionId: "../s2", generation: 1 }], [{ sessionId: "s2", generation: -1 }], ["s2"], [null]])(
    "that says it was forked from %j is refused",
    async (origin) => {
      await put(record(delta([GOOD_FRAME], [file("f")]), FRAME, { origins: [origin] }, 2));
      await expect(hydrate()).rejects.toMatchObject({ code: "STORE_CORRUPT" });
    },
  );

  it.each<[string, Buffer]>([
    ["a path that leads up", delta([GOOD_FRAME], [file("../escaped")])],
    ["a file below a link", delta([GOOD_FRAME], [link("a", "/etc"), file("a/escaped")])],
    ["a removed path that leads up", delta([GOOD_FRAME], [file("f")], OWN_RECORD, ["../in/here"])],
    ["more than its bytes say", Buffer.concat([delta([GOOD_FRAME], [file("f")]), Buffer.from([0])])],
    ["less than its bytes say", delta([GOOD_FRAME], [file("f")]).subarray(0, -3)],
    ["nothing", Buffer.alloc(0)],
  ])("whose table, as an object of its own, has %s is refused by its name", async (_name, bytes) => {
    for (const [generation, part] of [
      [1, "full"],
      [2, "rollup"],
    ] as const) {
      const { name, content } = table(generation, bytes);
      await test.backend.putIfAbsent(`acme/sessions/s1/table/${name}`, content);
      const chain = { [part]: name, deltas: [] };
      await put(record(delta([GOOD_FRAME], [file("f")]), FRAME, { generation, chain }), generation);
      await expect(hydrate()).rejects.toMatchObject({ code: "STORE_CORRUPT" });
      expect(readdirSync(dirname(target))).toEqual(["here"]);
      expect(readdirSync(target)).toEqual([]);
    }
  });

  it("with a bomb in a pack, or a pack that ends early, is refused by the pack's name", async () => {
    const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024));
    const hash = sha256(Buffer.alloc(1000));
    const entries = [{ path: "f", chunks: [{ frame: 0, offset: 0, length: 1000, hash }] }];
    for (const [generation, length] of [
      [1, bomb.length],
      [2, bomb.length + 100],
    ] as const) {
      const id = sha256(`${generation}`).toString("hex");
      await test.backend.putIfAbsent(`acme/sessions/s1/pack/${id}`, bomb);
      const frame = { offset: 0, length, plainLength: 60_000 };
      const head = { generation, chain: { deltas: [generation] } };
      await put(record(delta([frame], entries, packSource(id)), FRAME, head), generation);
      await expect(hydrate()).rejects.toMatchObject({
        code: "STORE_CORRUPT",
        key: expect.stringContaining(`/pack/${id}`),
      });
      expect(readdirSync(target)).toEqual([]);
    }
  });

  it("is refused by everything that reads it, not only by a restore", async () => {
    using copy = await test.store.hydrate(REF, undefined, target);
    const good = (await copy.commit("unchanged", meta())).commit;
    const bad = { generation: 2, parent: 1, chain: { deltas: [2] } };
    await put(record(delta([GOOD_FRAME], [directory("d"), file("d/../../escaped")]), FRAME, bad), 2);
    const refused = { code: "STORE_CORRUPT", key: expect.stringContaining("acme/sessions/s1/log/") };
    await expect(test.store.readNewest(REF)).rejects.toMatchObject(refused);
    await expect(test.store.listCommits(REF)).rejects.toMatchObject(refused);
    // One that only the whole table shows to be bad.
    const below = { generation: 3, parent: 2, chain: { deltas: [3] } };
    await put(record(delta([GOOD_FRAME], [link("a", "/etc"), file("a/escaped")]), FRAME, below), 3);
    const newest = (await test.store.readNewest(REF)) as Commit;
    await expect(test.store.openFile(REF, newest, "a/escaped")).rejects.toMatchObject(refused);
    await expect(test.store.readTable(REF, newest)).rejects.toMatchObject(refused);
    await expect(test.store.diff(REF, good, newest)).rejects.toMatchObject(refused);
    await expect(test.store.rollback(REF, newest, good, meta())).rejects.toMatchObject(refused);
    await expect(copy.restore(newest)).rejects.toMatchObject({ code: "STORE_CORRUPT" });
    // Content that is not what it is said to be is not given away, either.
    const other = { path: "f", chunks: [{ frame: 0, offset: 0, length: 5, hash: sha256("other") }] };
    await put(record(delta([GOOD_FRAME], [other]), FRAME, { generation: 4, chain: { deltas: [4] } }), 4);
    const wrong = (await test.store.readNewest(REF)) as Commit;
    const opened = await test.store.openFile(REF, wrong, "f");
    await expect(opened.stream().next()).rejects.toMatchObject({ code: "STORE_CORRUPT" });
  });

  it("restored over a directory in which the agent has put links writes through none of them", async () => {
    const outside = test.directory();
    writeFileSync(join(outside, "f"), "mine");
    mkdirSync(join(outside, "sub"));
    const before = fingerprint(outside);
    await put(
      record(delta([GOOD_FRAME], [directory("d"), file("d/f"), directory("d/sub"), file("f")]), FRAME),
    );
    const first = (await test.store.readNewest(REF)) as Commit;
    using copy = await test.store.hydrate(REF, first, target);
    for (const replace of [
      // Each a directory or a file that the table has, as a way out.
      () => symlinkSync(outside, join(target, "d")),
      () => {
        mkdirSync(join(target, "d"));
        symlinkSync(join(outside, "sub"), join(target, "d/sub"));
        symlinkSync(join(outside, "f"), join(target, "d/f"));
      },
      () => {
        mkdirSync(join(target, "d/sub"), { recursive: true });
        linkSync(join(outside, "f"), join(target, "d/f"));
      },
    ]) {
      rmSync(join(target, "d"), { recursive: true });
      rmSync(join(target, "f"));
      replace();
      symlinkSync(join(outside, "f"), join(target, "f"));
      await copy.restore();
      expect(readFileSync(join(target, "d/f"), "utf8")).toBe(CONTENT);
      expect(fingerprint(outside)).toEqual(before);
    }
    // A hostile generation over it is refused, and leaves what is outside alone as well.
    rmSync(join(target, "d"), { recursive: true });
    symlinkSync(outside, join(target, "d"));
    const bad = { generation: 2, parent: 1, chain: { deltas: [2] } };
    await put(record(delta([GOOD_FRAME], [link("d", outside), file("d/sub/x")]), FRAME, bad), 2);
    const second = (await test.store.readNewest(REF)) as Commit;
    await expect(copy.restore(second)).rejects.toMatchObject({ code: "STORE_CORRUPT" });
    expect(fingerprint(outside)).toEqual(before);
  });

  it("made by changing bytes of a good one at random is refused by name, or restored inside", async () => {
    const bytes = delta([GOOD_FRAME], [directory("d"), file("d/f"), link("l", "d/f")]);
    const outside = fingerprint(dirname(dirname(target)));
    let generation = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        async (changes) => {
          generation++;
          const changed = Buffer.from(bytes);
          for (const [at, value] of changes) changed[at] = value;
          await put(record(changed, FRAME, { generation, chain: { deltas: [generation] } }), generation);
          const inside = join(dirname(target), "here");
          rmSync(inside, { recursive: true });
          mkdirSync(inside);
          try {
            await hydrate();
          } catch (error) {
            // Its frame may be said to be in a record that was changed before, or never made.
            expect(["STORE_CORRUPT", "GENERATION_NOT_FOUND", "OBJECT_NOT_FOUND"]).toContain(
              (error as { code?: string }).code,
            );
          }
          rmSync(inside, { recursive: true });
          mkdirSync(inside);
          expect(withoutTimes(fingerprint(dirname(dirname(target))))).toEqual(withoutTimes(outside));
        },
      ),
      { numRuns: 300 },
    );
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

/** Paths and what they are. */
function withoutTimes(tree: Record<string, string>): string[] {
  return Object.entries(tree).map(([path, seen]) => `${path} ${seen.replace(/^(\S+) .*/, "$1")}`);
}
