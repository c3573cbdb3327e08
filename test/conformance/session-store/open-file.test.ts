import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Commit } from "@longshore/session-store";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { collect, meta, REF, type StoreKind, storeKinds, TestStore } from "./support.ts";

describe.each(storeKinds)("files of a generation, opened on %s", (kind: StoreKind) => {
  let test: TestStore;

  beforeEach(async () => {
    test = await TestStore.open(kind);
  });

  afterEach(async () => {
    await test[Symbol.asyncDispose]();
  });

  async function commitOf(files: Record<string, Buffer>): Promise<Commit> {
    using copy = await test.store.hydrate(REF, await test.store.readNewest(REF), test.directory());
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(join(copy.directory, path, ".."), { recursive: true });
      writeFileSync(join(copy.directory, path), content);
    }
    return (await copy.commit(await copy.mirror(), meta())).commit;
  }

  const received = () => test.requests.reduce((sum, request) => sum + request.received, 0);

  it("one after another or at once, need their table and what they share once", async () => {
    const files = Object.fromEntries(
      Array.from({ length: 2_000 }, (_, at) => [`d${at % 20}/f${at}`, randomBytes(2_000)] as const),
    );
    const commit = await commitOf(files);
    test.requests.length = 0;
    const read = async ([path, content]: [string, Buffer]) => {
      const opened = await test.store.openFile(REF, commit, path);
      expect((await collect(opened.stream())).equals(content)).toBe(true);
    };
    const entries = Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1));
    await Promise.all(entries.slice(0, 1_000).map(read));
    for (const entry of entries.slice(1_000)) await read(entry);
    expect(test.requests.length).toBeLessThan(30);
    expect(received()).toBeLessThan(5_000_000);
  });

  it("are those of their own generation and session, however much is kept in memory", async () => {
    const first = await commitOf({ f: Buffer.from("first") });
    const second = await commitOf({ f: Buffer.from("second") });
    const other = { tenant: "acme", sessionId: "s2" };
    using copy = await test.store.hydrate(other, undefined, test.directory());
    writeFileSync(join(copy.directory, "f"), "other");
    const { commit: foreign } = await copy.commit(await copy.mirror(), meta());
    for (let round = 0; round < 2; round++) {
      for (const [ref, commit, content] of [
        [REF, first, "first"],
        [REF, second, "second"],
        [other, foreign, "other"],
      ] as const) {
        const opened = await test.store.openFile(ref, commit, "f");
        expect((await collect(opened.stream())).toString()).toBe(content);
      }
    }
  });

  it("are not mistaken for those of a session that was deleted", async () => {
    const before = await commitOf({ f: Buffer.from("before") });
    await collect((await test.store.openFile(REF, before, "f")).stream());
    const { objects } = await test.backend.list("acme/sessions/s1/");
    await test.backend.delete(objects.map((object) => object.key));
    const after = await commitOf({ f: Buffer.from("after") });
    expect(after.generation).toBe(before.generation);
    expect((await collect((await test.store.openFile(REF, after, "f")).stream())).toString()).toBe("after");
  });

  it("give the part that was asked for", async () => {
    const files = { small: randomBytes(1_000), other: randomBytes(1_000), large: randomBytes(3_300_000) };
    const commit = await commitOf(files);
    for (const [path, content] of Object.entries(files)) {
      for (const [start, end] of [
        [0, content.length],
        [0, 0],
        [1, 2],
        [content.length - 1, content.length + 5],
        [content.length, content.length + 5],
        [content.length >> 1, content.length],
      ] as const) {
        const opened = await test.store.openFile(REF, commit, path, { range: { start, end } });
        expect((await collect(opened.stream())).equals(content.subarray(start, end))).toBe(true);
      }
    }
  });

  it("read no more of a large one than the chunks of the part that was asked for", async () => {
    const commit = await commitOf({ large: randomBytes(20 * 1024 * 1024) });
    await test.store.readTable(REF, commit);
    test.requests.length = 0;
    const range = { start: 10_000_000, end: 10_000_100 };
    const opened = await test.store.openFile(REF, commit, "large", { range });
    expect(await collect(opened.stream())).toHaveLength(100);
    expect(received()).toBeLessThan(1.1 * 1024 * 1024);
  });

  it("of any size are read with little memory", { timeout: 120_000 }, async () => {
    const size = 160 * 1024 * 1024;
    const content = {
      sizeBytes: size,
      async *open() {
        for (let at = 0; at < size; at += 1024 * 1024) yield randomBytes(1024 * 1024);
      },
    };
    const set = [{ path: "large", content }];
    const { commit } = await test.store.commitFiles(REF, undefined, { set }, meta());
    const opened = await test.store.openFile(REF, commit, "large");
    let most = 0;
    let bytes = 0;
    for await (const part of opened.stream()) {
      bytes += part.length;
      const { arrayBuffers } = process.memoryUsage();
      most = Math.max(most, arrayBuffers);
    }
    const { objects } = await test.backend.list("acme/sessions/s1/pack/");
    await test.backend.delete(objects.map((object) => object.key));
    expect(bytes).toBe(size);
    expect(most).toBeLessThan(120 * 1024 * 1024);
  });

  it("end when whoever asked goes away, while others go on", async () => {
    const commit = await commitOf({ a: randomBytes(5_000), b: randomBytes(5_000) });
    const gone = new AbortController();
    const one = test.store.openFile(REF, commit, "a", {}, gone.signal);
    const two = test.store.openFile(REF, commit, "a");
    gone.abort(new Error("gone"));
    await expect(one).rejects.toThrow("gone");
    expect(await collect((await two).stream())).toHaveLength(5_000);
  });

  it("fail while a table can't be read, and no longer", async () => {
    const commit = await commitOf(
      Object.fromEntries(Array.from({ length: 500 }, (_, at) => [`f${at}`, randomBytes(500)] as const)),
    );
    const [table] = (await test.backend.list("acme/sessions/s1/table/")).objects;
    const content = await test.backend.get(table?.key ?? "");
    await test.backend.delete([table?.key ?? ""]);
    await expect(test.store.openFile(REF, commit, "f1")).rejects.toMatchObject({ code: "OBJECT_NOT_FOUND" });
    await test.backend.putIfAbsent(table?.key ?? "", content);
    expect((await test.store.openFile(REF, commit, "f1")).entry.size).toBe(500);
  });

  it("name the object that is damaged, each time", async () => {
    const commit = await commitOf(
      Object.fromEntries(Array.from({ length: 40 }, (_, at) => [`f${at}`, randomBytes(2_000)] as const)),
    );
    const [pack] = (await test.backend.list("acme/sessions/s1/pack/")).objects;
    const content = await test.backend.get(pack?.key ?? "");
    const damaged = Buffer.from(content);
    damaged.fill(7, content.length >> 1, (content.length >> 1) + 10);
    await test.backend.replace(pack?.key ?? "", damaged);
    const readAll = async () => {
      for (let at = 0; at < 40; at++)
        await collect((await test.store.openFile(REF, commit, `f${at}`)).stream());
    };
    for (let round = 0; round < 2; round++)
      await expect(readAll()).rejects.toMatchObject({ code: "STORE_CORRUPT", key: pack?.key });
    await test.backend.replace(pack?.key ?? "", content);
    await readAll();
  });
});
