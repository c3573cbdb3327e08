import { randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  type Commit,
  type ContentSource,
  openBackend,
  SessionStore,
  type TreeChange,
} from "@longshore/session-store";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { collect, fingerprint, meta, REF, type StoreKind, storeKinds, TestStore } from "./support.ts";

const code = (expected: string, reason?: string) =>
  expect.objectContaining(reason === undefined ? { code: expected } : { code: expected, reason });
const upload = meta({ kind: "upload" });

/** Content that comes in parts of odd sizes. */
function streamed(content: Buffer, sizeBytes = content.length): ContentSource {
  return {
    sizeBytes,
    async *open() {
      for (let at = 0; at < content.length; at += 77_777) {
        await delay(0);
        yield content.subarray(at, at + 77_777);
      }
    },
  };
}

describe.each(storeKinds)("changes of files on %s", (kind: StoreKind) => {
  let test: TestStore;

  beforeEach(async () => {
    test = await TestStore.open(kind);
  });

  afterEach(async () => {
    await test[Symbol.asyncDispose]();
  });

  async function restored(commit: Commit | undefined): Promise<string> {
    const directory = test.directory();
    using _ = await test.store.hydrate(REF, commit, directory);
    return directory;
  }

  describe("without a working copy", () => {
    it("sets and removes files, makes the directories on the way, and keeps all else", async () => {
      const large = randomBytes(5_500_000);
      const first = await test.store.commitFiles(
        REF,
        undefined,
        {
          set: [
            {
              path: "workspace/docs/a.txt",
              content: Buffer.from("a"),
              mode: 0o4755,
              mtimeMs: 1_234_567_890_123,
            },
            { path: "workspace/large", content: streamed(large) },
            { path: "workspace/none", content: Buffer.alloc(0) },
            { path: Buffer.from([0x66, 0xff, 0x0a]), content: Buffer.from("odd name") },
          ],
        },
        upload,
      );
      expect(first).toMatchObject({
        outcome: "committed",
        commit: { generation: 1, kind: "upload", entries: 6 },
      });
      expect(first.commit.totalBytes).toBe(1 + large.length + 8);
      const there = await restored(first.commit);
      expect(readFileSync(join(there, "workspace/large")).equals(large)).toBe(true);
      expect(Math.floor(statSync(join(there, "workspace/docs/a.txt")).mtimeMs)).toBe(1_234_567_890_123);
      expect(statSync(join(there, "workspace/docs/a.txt")).mode & 0o7777).toBe(0o755);
      expect(statSync(join(there, "workspace/none")).mode & 0o7777).toBe(0o644);
      expect(statSync(join(there, "workspace")).mode & 0o7777).toBe(0o755);
      const before = fingerprint(there);
      const second = await test.store.commitFiles(
        REF,
        first.commit,
        {
          remove: ["workspace/docs", "not/there"],
          set: [{ path: "workspace/docs/b/c", content: Buffer.from("c") }],
        },
        upload,
      );
      expect(second).toMatchObject({
        outcome: "committed",
        commit: { generation: 2, parent: 1, entries: 7 },
      });
      const after = fingerprint(await restored(second.commit));
      expect(Object.keys(after).sort()).toEqual(
        [
          ...Object.keys(before).filter((path) => path !== "workspace/docs/a.txt"),
          "workspace/docs/b",
          "workspace/docs/b/c",
        ].sort(),
      );
      expect(after["workspace/large"]).toBe(before["workspace/large"]);
    });

    it("stores content once, also that of other paths", async () => {
      const content = randomBytes(3_000_000);
      const { commit } = await test.store.commitFiles(
        REF,
        undefined,
        { set: [{ path: "a", content }] },
        upload,
      );
      test.requests.length = 0;
      const again = await test.store.commitFiles(
        REF,
        commit,
        { set: [{ path: "b", content: streamed(content) }] },
        upload,
      );
      expect(test.requests.reduce((sum, request) => sum + request.sent, 0)).toBeLessThan(20_000);
      const there = await restored(again.commit);
      expect(readFileSync(join(there, "b")).equals(content)).toBe(true);
    });

    it("sets empty directories, modes of directories, and links", async () => {
      const mtimeMs = 1_234_567_890_123;
      const first = await test.store.commitFiles(
        REF,
        undefined,
        {
          set: [
            { type: "directory", path: "empty", mode: 0o2700, mtimeMs },
            { path: "dir/file", content: Buffer.from("file") },
            { type: "directory", path: "dir", mode: 0o711 },
            { type: "link", path: "dir/link", target: "../nowhere", mtimeMs },
            { type: "link", path: "odd", target: Buffer.from([0x2f, 0xff]) },
          ],
        },
        upload,
      );
      expect(first.commit.entries).toBe(5);
      const there = await restored(first.commit);
      expect(statSync(join(there, "empty")).mode & 0o7777).toBe(0o700);
      expect(Math.floor(statSync(join(there, "empty")).mtimeMs)).toBe(mtimeMs);
      expect(statSync(join(there, "dir")).mode & 0o7777).toBe(0o711);
      expect(readlinkSync(join(there, "dir/link"))).toBe("../nowhere");
      expect(Math.floor(lstatSync(join(there, "dir/link")).mtimeMs)).toBe(mtimeMs);
      expect(readlinkSync(join(there, "odd"), { encoding: "buffer" })).toEqual(Buffer.from([0x2f, 0xff]));

      // Over what a working copy has: a link for a file, a file for a link, and a directory that stays.
      using copy = await test.store.hydrate(REF, first.commit, test.directory());
      await copy.commitFiles(
        {
          set: [
            { type: "link", path: "dir/file", target: "link" },
            { path: "odd", content: Buffer.from("a file now") },
            { type: "directory", path: "empty", mode: 0o755 },
          ],
        },
        upload,
      );
      expect(readlinkSync(join(copy.directory, "dir/file"))).toBe("link");
      expect(readFileSync(join(copy.directory, "odd"), "utf8")).toBe("a file now");
      expect(statSync(join(copy.directory, "empty")).mode & 0o7777).toBe(0o755);
      const { "dir/file": link, odd } = fingerprint(copy.directory);
      expect(fingerprint(await restored(copy.base))).toMatchObject({ "dir/file": link, odd });
      await copy.commit(await copy.mirror(), meta());
      expect(fingerprint(await restored(copy.base))).toEqual(fingerprint(copy.directory));
    });

    it("counts what is new against the quota, and nothing that was there", async () => {
      const { commit } = await test.store.commitFiles(
        REF,
        undefined,
        { set: [{ type: "directory", path: "a" }] },
        upload,
      );
      const change = (path: string) =>
        test.store.commitFiles(
          REF,
          commit,
          { set: [{ type: "directory", path, mode: 0o700 }], quota: { files: 1 } },
          upload,
        );
      await expect(change("b")).rejects.toThrow(code("QUOTA_EXCEEDED"));
      expect((await change("a")).outcome).toBe("committed");
    });

    it.each<[string, readonly TreeChange[], string]>([
      ["a file as a directory", [{ path: "file/x", content: Buffer.from("x") }], "not-a-directory"],
      ["a link as a directory", [{ path: "link/x", content: Buffer.from("x") }], "not-a-directory"],
      ["a directory as a file", [{ path: "dir", content: Buffer.from("x") }], "not-a-file"],
      ["a file as an empty directory", [{ path: "file", type: "directory" }], "not-a-directory"],
      ["a directory as a link", [{ path: "dir", type: "link", target: "x" }], "not-a-file"],
      ["a link without a target", [{ path: "new", type: "link", target: "" }], "malformed"],
      ["a way out", [{ path: "dir/../../x", content: Buffer.from("x") }], "malformed"],
      [
        "both in one",
        [
          { path: "new", content: Buffer.from("x") },
          { path: "new/x", content: Buffer.from("x") },
        ],
        "not-a-directory",
      ],
    ])("refuses %s", async (_, set, reason) => {
      using copy = await test.store.hydrate(REF, undefined, test.directory());
      using made = await test.store.hydrate(REF, undefined, test.directory());
      mkdirSync(join(copy.directory, "dir"));
      writeFileSync(join(copy.directory, "file"), "file");
      symlinkSync("dir", join(copy.directory, "link"));
      const { commit } = await copy.commit(await copy.mirror(), meta());
      await expect(test.store.commitFiles(REF, commit, { set }, upload)).rejects.toEqual(
        code("UNSAFE_PATH", reason),
      );
      await made.restore(commit);
      await expect(made.commitFiles({ set }, upload)).rejects.toEqual(code("UNSAFE_PATH", reason));
      expect((await test.store.readNewest(REF))?.generation).toBe(1);
      // Where the one in the way goes first, it is none.
      if (reason === "malformed" || set.length > 1) return;
      const remove = ["file", "link", "dir"];
      const replaced = await made.commitFiles({ remove, set }, upload);
      expect(replaced.outcome).toBe("committed");
      expect(fingerprint(made.directory)).toEqual(fingerprint(await restored(replaced.commit)));
    });

    it("replaces a link, and does not write through it", async () => {
      using copy = await test.store.hydrate(REF, undefined, test.directory());
      writeFileSync(join(copy.directory, "target"), "target");
      symlinkSync("target", join(copy.directory, "link"));
      await copy.commit(await copy.mirror(), meta());
      const set = [{ path: "link", content: Buffer.from("new") }];
      const { commit } = await test.store.commitFiles(REF, copy.base, { set }, upload);
      const there = await restored(commit);
      expect(readFileSync(join(there, "link"), "utf8")).toBe("new");
      expect(readFileSync(join(there, "target"), "utf8")).toBe("target");
    });

    it.each([
      ["shorter", 100_001],
      ["longer", 99_999],
    ])("refuses content that is %s than was said", async (_, size) => {
      const content = streamed(Buffer.alloc(100_000, 1), size);
      await expect(
        test.store.commitFiles(REF, undefined, { set: [{ path: "f", content }] }, upload),
      ).rejects.toEqual(code("CONTENT_SIZE"));
      expect(await test.store.readNewest(REF)).toBeUndefined();
    });

    it.each([
      ["files", { files: 2 }],
      ["bytes", { bytes: 14 }],
      ["fileBytes", { fileBytes: 4 }],
      ["pathBytes", { pathBytes: 2 }],
    ])("refuses to exceed the quota on %s", async (quota, limits) => {
      const { commit } = await test.store.commitFiles(
        REF,
        undefined,
        { set: [{ path: "old", content: Buffer.alloc(10) }] },
        upload,
      );
      const set = [{ path: "d/f", content: Buffer.alloc(5) }];
      await expect(test.store.commitFiles(REF, commit, { set, quota: limits }, upload)).rejects.toMatchObject(
        { code: "QUOTA_EXCEEDED", quota },
      );
      const enough = { files: 2, bytes: 5, fileBytes: 5, pathBytes: 3 };
      const within = await test.store.commitFiles(
        REF,
        commit,
        { remove: ["old"], set, quota: enough },
        upload,
      );
      expect(within.outcome).toBe("committed");
    });

    it("tells the loser of two", async () => {
      const both = await Promise.all(
        ["a", "b"].map((path) =>
          test.store.commitFiles(REF, undefined, { set: [{ path, content: Buffer.from(path) }] }, upload),
        ),
      );
      expect(both.map((result) => result.outcome).sort()).toEqual(["committed", "overtaken"]);
    });

    it("refuses an epoch below the base's", async () => {
      const { commit } = await test.store.commitFiles(REF, undefined, { set: [] }, meta({ epoch: 5 }));
      await expect(test.store.commitFiles(REF, commit, { set: [] }, meta({ epoch: 4 }))).rejects.toEqual(
        code("EPOCH_REGRESSED"),
      );
    });
  });

  describe("through a working copy", () => {
    it("commits the base with the changes only, writes them, and leaves what else is dirty", async () => {
      const here = test.directory();
      using copy = await test.store.hydrate(REF, undefined, here);
      mkdirSync(join(here, "dir/sub"), { recursive: true });
      for (const name of ["clean", "dirty", "gone", "dir/file", "dir/sub/inner", "over"])
        writeFileSync(join(here, name), name);
      await delay(50);
      await copy.commit(await copy.mirror(), meta());
      // The agent at work, since the last commit.
      writeFileSync(join(here, "dirty"), "changed by the agent");
      writeFileSync(join(here, "over"), "changed by the agent too");
      writeFileSync(join(here, "untracked"), "new of the agent");
      mkdirSync(join(here, "made"), { mode: 0o700 });
      chmodSync(join(here, "dir"), 0o711);
      const large = randomBytes(2_000_000);
      const result = await copy.commitFiles(
        {
          remove: ["gone", "dir/sub", "untracked"],
          set: [
            { path: "over", content: Buffer.from("uploaded") },
            { path: "made/by/f", content: streamed(large) },
            { path: "dir/new", content: Buffer.from("new"), mode: 0o600 },
            { path: "clean", content: Buffer.from("clean"), mtimeMs: statSync(join(here, "clean")).mtimeMs },
          ],
        },
        upload,
      );
      expect(result).toMatchObject({ outcome: "committed", commit: { generation: 2 } });
      expect(copy.base?.id).toBe(result.commit.id);
      expect(readFileSync(join(here, "over"), "utf8")).toBe("uploaded");
      expect(readFileSync(join(here, "dirty"), "utf8")).toBe("changed by the agent");
      expect(readFileSync(join(here, "made/by/f")).equals(large)).toBe(true);
      expect(existsSync(join(here, "gone")) || existsSync(join(here, "dir/sub"))).toBe(false);
      expect(existsSync(join(here, "untracked"))).toBe(false);
      expect(statSync(join(here, "dir")).mode & 0o777).toBe(0o711);
      expect(statSync(join(here, "made")).mode & 0o777).toBe(0o700);
      // In the store: nothing of the agent's.
      const there = await restored(result.commit);
      expect(readFileSync(join(there, "dirty"), "utf8")).toBe("dirty");
      expect(statSync(join(there, "dir")).mode & 0o777).toBe(0o755);
      expect(readdirSync(there).sort()).toEqual(["clean", "dir", "dirty", "made", "over"]);
      // What is dirty still is.
      const mirror = await copy.mirror();
      await copy.commit(mirror, meta());
      expect(copy.base?.delta?.set.map((entry) => entry.path).sort()).toEqual(["dir", "dirty"]);
      expect(fingerprint(await restored(copy.base))).toEqual(fingerprint(here));
    });

    it("leaves nothing to mirror where nothing was dirty", async () => {
      const here = test.directory();
      using copy = await test.store.hydrate(REF, undefined, here);
      mkdirSync(join(here, "dir"));
      writeFileSync(join(here, "dir/old"), "old");
      await delay(50);
      await copy.commit(await copy.mirror(), meta());
      await copy.commitFiles(
        { remove: ["dir/old"], set: [{ path: "dir/new/f", content: Buffer.from("f") }] },
        upload,
      );
      await delay(50);
      expect(await copy.mirror()).toMatchObject({ isEmpty: true });
      expect(fingerprint(await restored(copy.base))).toEqual(fingerprint(here));
    });

    it("overwrites what the agent made of an unchanged file", async () => {
      const here = test.directory();
      using copy = await test.store.hydrate(REF, undefined, here);
      const set = [{ path: "f", content: Buffer.from("same"), mtimeMs: 1_000_000 }];
      await copy.commitFiles({ set }, upload);
      writeFileSync(join(here, "f"), "DIFF");
      utimesSync(join(here, "f"), 1000, 1000);
      await copy.commitFiles({ set }, upload);
      expect(readFileSync(join(here, "f"), "utf8")).toBe("same");
    });

    it.each([
      ["a file where a directory has to be", "not-a-directory"],
      ["a link where a directory has to be", "not-a-directory"],
      ["a directory where a file has to be", "not-a-file"],
    ])("refuses when the agent made %s, and commits nothing", async (what, reason) => {
      const here = test.directory();
      const outside = test.directory();
      using copy = await test.store.hydrate(REF, undefined, here);
      if (what.startsWith("a file")) writeFileSync(join(here, "p"), "");
      else if (what.startsWith("a link")) symlinkSync(outside, join(here, "p"));
      else mkdirSync(join(here, "p/f"), { recursive: true });
      const set = [{ path: "p/f", content: Buffer.from("x") }];
      await expect(copy.commitFiles({ set }, upload)).rejects.toEqual(code("UNSAFE_PATH", reason));
      expect(await test.store.readNewest(REF)).toBeUndefined();
      expect(readdirSync(outside)).toEqual([]);
      rmSync(join(here, "p"), { recursive: true });
      expect((await copy.commitFiles({ set }, upload)).outcome).toBe("committed");
      expect(readFileSync(join(here, "p/f"), "utf8")).toBe("x");
    });

    it("changes nothing when it is overtaken", async () => {
      const here = test.directory();
      using copy = await test.store.hydrate(REF, undefined, here);
      await test.store.commitFiles(
        REF,
        undefined,
        { set: [{ path: "a", content: Buffer.from("a") }] },
        upload,
      );
      const result = await copy.commitFiles({ set: [{ path: "b", content: Buffer.from("b") }] }, upload);
      expect(result).toMatchObject({ outcome: "overtaken", commit: { generation: 1 } });
      expect(readdirSync(here)).toEqual([]);
      expect(copy.base).toBeUndefined();
      await copy.restore(result.commit);
      expect(readdirSync(here)).toEqual(["a"]);
    });

    it("gives what is written to the owner of the rest", async () => {
      const here = test.directory();
      const owner = { uid: 12_345, gid: 23_456 };
      using copy = await test.store.hydrate(REF, undefined, here, { owner });
      await copy.commitFiles({ set: [{ path: "d/f", content: Buffer.from("x") }] }, upload);
      for (const path of ["d", "d/f"]) expect(statSync(join(here, path))).toMatchObject(owner);
    });
  });

  it("tells how far a mirror, a restore and another one are", async () => {
    const here = test.directory();
    using copy = await test.store.hydrate(REF, undefined, here);
    for (let file = 0; file < 50; file++) writeFileSync(join(here, `f${file}`), randomBytes(100_000));
    writeFileSync(join(here, "large"), randomBytes(3_000_000));
    const seen: number[][] = [[], [], []];
    const listener = (at: number) => ({
      onProgress: ({ done, total }: { done: number; total: number }) => {
        expect(total).toBe(8_000_000);
        seen[at]?.push(done);
      },
    });
    await copy.commit(await copy.mirror(listener(0)), meta());
    using other = await test.store.hydrate(REF, copy.base, test.directory(), listener(1));
    for (const name of readdirSync(other.directory)) rmSync(join(other.directory, name));
    await other.restore(copy.base, listener(2));
    for (const dones of seen) {
      expect(dones.at(-1)).toBe(8_000_000);
      expect(dones).toEqual([...dones].sort((a, b) => a - b));
    }
  });

  it("tells of progress often, but not too often", async () => {
    // A clock that goes 10 ms with each look at it.
    let now = 0;
    const store = new SessionStore({
      backend: openBackend(`file://${test.scratch}/other`),
      clock: { now: () => Date.now(), monotonic: () => (now += 10) },
    });
    const here = test.directory();
    using copy = await store.hydrate(REF, undefined, here);
    for (let file = 0; file < 30; file++) writeFileSync(join(here, `f${file}`), "0123456789");
    const seen: number[] = [];
    await copy.commit(await copy.mirror({ onProgress: ({ done }) => seen.push(done) }), meta());
    expect(seen).toEqual([100, 200, 300, 300]);
    await store.close();
  });

  it("is readable file by file afterwards", async () => {
    const content = randomBytes(2_500_000);
    const { commit } = await test.store.commitFiles(
      REF,
      undefined,
      { set: [{ path: "d/f", content: streamed(content) }] },
      upload,
    );
    const opened = await test.store.openFile(REF, commit, "d/f");
    expect((await collect(opened.stream())).equals(content)).toBe(true);
  });
});
