import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { fingerprint, meta, REF, s3Options, TestStore } from "../conformance/session-store/support.ts";
import { type Fault, FaultProxy } from "./fault-proxy.ts";

const isLog = (path: string) => path.includes("/log/");

describe("an object store that fails", () => {
  let proxy: FaultProxy;
  let test: TestStore;
  let here: string;

  beforeEach(async () => {
    proxy = await FaultProxy.start(s3Options().endpoint ?? "");
    test = await TestStore.open("s3", { endpoint: proxy.url, timeoutMs: 500 });
    here = test.directory();
  });

  afterEach(async () => {
    proxy.rule = () => undefined;
    await test[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
  });

  it.each<Fault>([
    "slow-down",
    "conflict",
    "reset",
    "reset-midway",
    "lost-answer",
    "hang",
    "hang-after",
    "repeat",
    "skewed",
    "expired",
  ])("%s of the commit's put: the commit takes place exactly once", async (fault) => {
    using copy = await test.store.hydrate(REF, undefined, here);
    writeFileSync(join(here, "f"), "one");
    const mirror = await copy.mirror();
    proxy.failNext(2, fault, (method, path) => method === "PUT" && isLog(path));
    const result = await copy.commit(mirror, meta());
    expect(proxy.faults).toBeGreaterThan(0);
    expect(result).toMatchObject({ outcome: "committed", commit: { generation: 1 } });
    const commits = await test.store.listCommits(REF);
    expect(commits.map((commit) => commit.id)).toEqual([result.commit.id]);
    // The working copy knows that it won: the next turn goes on from there.
    writeFileSync(join(here, "f"), "two");
    expect(await copy.commit(await copy.mirror(), meta())).toMatchObject({
      commit: { generation: 2, parent: 1 },
    });
  });

  it.each<Fault>(["lost-answer", "hang-after"])(
    "%s of the commit's put while another writer was faster: told whose generation it is",
    async (fault) => {
      using other = await test.store.hydrate(REF, undefined, test.directory());
      using copy = await test.store.hydrate(REF, undefined, here);
      await other.commit("unchanged", meta({ nonce: "other", epoch: 2 }));
      proxy.failNext(1, fault, (method, path) => method === "PUT" && isLog(path));
      const result = await copy.commit("unchanged", meta());
      expect(result).toMatchObject({ outcome: "overtaken", commit: { nonce: "other", epoch: 2 } });
      expect(copy.base).toBeUndefined();
    },
  );

  it("a commit whose put may have arrived and can't be read back is unsettled, not failed", async () => {
    await using hasty = await TestStore.open("s3", {
      endpoint: proxy.url,
      timeoutMs: 200,
      retry: { attempts: 1, firstMs: 1, longestMs: 1 },
    });
    using copy = await hasty.store.hydrate(REF, undefined, here);
    const stop = new AbortController();
    let puts = 0;
    proxy.rule = (method, path) => {
      if (!isLog(path)) return undefined;
      if (method === "PUT" && puts++ === 0) return "lost-answer";
      queueMicrotask(() => stop.abort());
      return "reset";
    };
    await expect(copy.commit("unchanged", meta(), stop.signal)).rejects.toMatchObject({
      code: "COMMIT_UNSETTLED",
    });
    proxy.rule = () => undefined;
    // It did take place; whoever reads the log adopts it.
    expect(await hasty.store.readNewest(REF)).toMatchObject({ generation: 1 });
  });

  it("denied: not retried, and said so", async () => {
    using copy = await test.store.hydrate(REF, undefined, here);
    proxy.failNext(1, "denied", (method) => method === "PUT");
    await expect(copy.commit("unchanged", meta())).rejects.toMatchObject({ code: "STORE_ACCESS_DENIED" });
    expect(proxy.faults).toBe(1);
    expect(await copy.commit("unchanged", meta())).toMatchObject({ outcome: "committed" });
  });

  it.each<Fault>([
    "slow-down",
    "reset",
    "reset-midway",
    "lost-answer",
    "hang-after",
    "drip",
    "repeat",
    "skewed",
    "expired",
  ])("%s of packs, tables and reads: tried again until it works", async (fault) => {
    using copy = await test.store.hydrate(REF, undefined, here);
    for (let file = 0; file < 600; file++) writeFileSync(join(here, `f${file}`), randomBytes(200));
    let count = 0;
    proxy.rule = () => (count++ % 3 === 0 ? fault : undefined);
    await copy.commit(await copy.mirror(), meta());
    const elsewhere = test.directory();
    using _ = await test.store.hydrate(REF, await test.store.readNewest(REF), elsewhere);
    expect(fingerprint(elsewhere)).toEqual(fingerprint(here));
    expect(proxy.faults).toBeGreaterThan(2);
  });

  it("truncate of reads: read again, never taken for the whole", async () => {
    using copy = await test.store.hydrate(REF, undefined, here);
    writeFileSync(join(here, "f"), randomBytes(300_000));
    await copy.commit(await copy.mirror(), meta());
    let count = 0;
    proxy.rule = (method) => (method === "GET" && count++ % 2 === 0 ? "truncate" : undefined);
    const elsewhere = test.directory();
    using _ = await test.store.hydrate(REF, await test.store.readNewest(REF), elsewhere);
    expect(readFileSync(join(elsewhere, "f")).equals(readFileSync(join(here, "f")))).toBe(true);
    expect(proxy.faults).toBeGreaterThan(1);
  });

  describe("a range that is read straight into memory", () => {
    const content = randomBytes(3_000_000);
    const range = { start: 1_000_000, end: 2_500_000 };
    let into: Buffer;

    beforeEach(async () => {
      await test.backend.putIfAbsent("large", content);
      into = Buffer.from(new SharedArrayBuffer(range.end - range.start));
    });

    it("comes, through one connection after another request through it", async () => {
      for (let time = 0; time < 2; time++) {
        into.fill(0);
        expect(await test.backend.get("large", { range, into })).toBe(into);
        expect(into.equals(content.subarray(range.start, range.end))).toBe(true);
      }
      // Signed and sent once each: it was not given up for the SDK's client.
      expect(proxy.seen.filter(({ method }) => method === "GET")).toHaveLength(2);
    });

    it.each<Fault>([
      "slow-down",
      "reset",
      "reset-midway",
      "lost-answer",
      "hang-after",
      "truncate",
      "skewed",
      "expired",
    ])("%s: read again until it works", async (fault) => {
      proxy.failNext(2, fault, (method) => method === "GET");
      await test.backend.get("large", { range, into });
      expect(into.equals(content.subarray(range.start, range.end))).toBe(true);
      expect(proxy.faults).toBe(2);
    });

    it("what is not there, not allowed or shorter is told as ever", async () => {
      await expect(test.backend.get("none", { range, into })).rejects.toMatchObject({
        code: "OBJECT_NOT_FOUND",
      });
      await expect(
        test.backend.get("large", { range: { start: 2_000_000, end: 3_500_000 }, into }),
      ).rejects.toMatchObject({ code: "STORE_CORRUPT" });
      proxy.rule = () => "denied";
      await expect(test.backend.get("large", { range, into })).rejects.toMatchObject({
        code: "STORE_ACCESS_DENIED",
      });
    });
  });

  it("truncate of lists: never taken for a session without generations", async () => {
    using copy = await test.store.hydrate(REF, undefined, here);
    for (let epoch = 1; epoch <= 3; epoch++) await copy.commit("unchanged", meta({ epoch }));
    proxy.failNext(3, "truncate", (method, path) => method === "GET" && path === "/store-tests/");
    expect(await test.store.readNewest(REF)).toMatchObject({ generation: 3 });
    expect(proxy.faults).toBe(3);
  });

  it.each([
    ["record", "/log/"],
    ["pack", "/pack/"],
    ["table", "/table/"],
  ])(
    "corrupt %s: refused by name, nothing of it is written, and there is no working copy",
    async (_what, part) => {
      using copy = await test.store.hydrate(REF, undefined, here);
      for (let file = 0; file < 600; file++) writeFileSync(join(here, `f${file}`), randomBytes(200));
      await copy.commit(await copy.mirror(), meta());
      proxy.rule = (method, path) => (method === "GET" && path.includes(part) ? "corrupt" : undefined);
      const elsewhere = test.directory();
      await expect(
        (async () => test.store.hydrate(REF, await test.store.readNewest(REF), elsewhere))(),
      ).rejects.toMatchObject({ code: "STORE_CORRUPT", key: expect.stringContaining(part) });
      proxy.rule = () => undefined;
      const good = fingerprint(here);
      for (const [path, seen] of Object.entries(fingerprint(elsewhere))) expect(seen).toBe(good[path]);
    },
  );

  it("a working copy over which a restore failed commits nothing any more (I4)", async () => {
    using copy = await test.store.hydrate(REF, undefined, here);
    using other = await test.store.hydrate(REF, undefined, test.directory());
    writeFileSync(join(other.directory, "f"), randomBytes(300_000));
    const { commit } = await other.commit(await other.mirror(), meta());
    proxy.rule = (method, path) => (method === "GET" && path.includes("/pack/") ? "corrupt" : undefined);
    await expect(copy.restore(commit)).rejects.toMatchObject({ code: "STORE_CORRUPT" });
    proxy.rule = () => undefined;
    await expect(copy.mirror()).rejects.toMatchObject({ code: "WORKING_COPY_UNUSABLE" });
    await expect(copy.commit("unchanged", meta())).rejects.toMatchObject({ code: "WORKING_COPY_UNUSABLE" });
  });

  it("a failed mirror leaves everything as it was", async () => {
    using copy = await test.store.hydrate(REF, undefined, here);
    writeFileSync(join(here, "f"), randomBytes(300_000));
    proxy.rule = (method, path) => (method === "PUT" && path.includes("/pack/") ? "denied" : undefined);
    await expect(copy.mirror()).rejects.toMatchObject({ code: "STORE_ACCESS_DENIED" });
    proxy.rule = () => undefined;
    expect(await copy.commit(await copy.mirror(), meta())).toMatchObject({ outcome: "committed" });
    const elsewhere = test.directory();
    using _ = await test.store.hydrate(REF, copy.base, elsewhere);
    expect(fingerprint(elsewhere)).toEqual(fingerprint(here));
  });
});
