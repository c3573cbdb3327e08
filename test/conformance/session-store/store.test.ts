import { randomBytes } from "node:crypto";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  copyFileSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  type CollectedVolume,
  type Commit,
  collectVolumes,
  type Mirror,
  textOfPath,
  type WorkingCopy,
} from "@longshore/session-store";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { collect, fingerprint, meta, REF, run, type StoreKind, storeKinds, TestStore } from "./support.ts";

const code = (expected: string) => expect.objectContaining({ code: expected });

describe.each(storeKinds)("session store on %s", (kind: StoreKind) => {
  let test: TestStore;
  let here: string;
  let copy: WorkingCopy;

  beforeEach(async () => {
    test = await TestStore.open(kind);
    here = test.directory();
    copy = await test.store.hydrate(REF, undefined, here);
  });

  afterEach(async () => {
    copy.close();
    await test[Symbol.asyncDispose]();
  });

  async function commitAll(epoch = 1): Promise<Commit> {
    const result = await copy.commit(await copy.mirror(), meta({ epoch }));
    expect(result.outcome).toBe("committed");
    return result.commit;
  }

  /** Restores the newest generation elsewhere and compares. */
  async function expectRestoredEqual(): Promise<void> {
    const elsewhere = test.directory();
    const newest = await test.store.readNewest(REF);
    using restored = await test.store.hydrate(REF, newest, elsewhere);
    expect(fingerprint(elsewhere)).toEqual(fingerprint(here));
    expect(restored.base?.id).toBe(newest?.id);
    const again = await restored.mirror();
    expect(again.isEmpty).toBe(true);
  }

  it("has no generation before the first commit", async () => {
    expect(await test.store.readNewest(REF)).toBeUndefined();
    expect(await test.store.listCommits(REF)).toEqual([]);
    expect(copy.base).toBeUndefined();
    await expect(test.store.readCommit(REF, 1)).rejects.toEqual(code("GENERATION_NOT_FOUND"));
  });

  it("restores everything a directory holds: bytes, modes, times, links, empty directories, odd names", async () => {
    mkdirSync(join(here, "workspace/empty"), { recursive: true });
    mkdirSync(join(here, "workspace/private"), { mode: 0o700 });
    writeFileSync(join(here, "workspace/text"), "hello");
    writeFileSync(join(here, "workspace/none"), "");
    writeFileSync(join(here, "workspace/script"), "#!/bin/sh\n", { mode: 0o755 });
    chmodSync(join(here, "workspace/script"), 0o751);
    writeFileSync(join(here, "workspace/read-only"), "x");
    chmodSync(join(here, "workspace/read-only"), 0o400);
    writeFileSync(join(here, "workspace/large"), Buffer.alloc(3 * 1024 * 1024 + 17, "0123456789abcdef!"));
    symlinkSync("text", join(here, "workspace/link"));
    symlinkSync("/etc/passwd", join(here, "workspace/absolute"));
    symlinkSync("nowhere/at/all", join(here, "workspace/dangling"));
    lutimesSync(join(here, "workspace/dangling"), 1, 86_400.5);
    utimesSync(join(here, "workspace/text"), 1, 1_234_567_890.123456);
    utimesSync(join(here, "workspace/none"), 1, "-1000.5");
    const odd = [
      Buffer.from([0xff, 0xfe, 0x0a, 0x01]),
      Buffer.from("neue\nZeile"),
      Buffer.alloc(255, "ü"),
      Buffer.from("-rf *"),
    ];
    for (const name of odd) writeFileSync(Buffer.concat([Buffer.from(`${here}/`), name]), name);
    mkdirSync(join(here, "d/".repeat(100)), { recursive: true });
    writeFileSync(join(here, "d/".repeat(100), "deep"), "deep");
    utimesSync(join(here, "workspace/empty"), 1, 2_000_000_000);
    await commitAll();
    await expectRestoredEqual();
  });

  it("sees every kind of change, and restores it", async () => {
    for (const name of ["append", "truncate", "over", "times", "mode", "gone", "same", "moved", "swap"]) {
      writeFileSync(join(here, name), `content of ${name}`.repeat(10));
    }
    mkdirSync(join(here, "dir/sub"), { recursive: true });
    writeFileSync(join(here, "dir/sub/file"), "x");
    mkdirSync(join(here, "becomes-file"));
    writeFileSync(join(here, "becomes-file/inner"), "x");
    symlinkSync("a", join(here, "link"));
    // Else all of it would be looked at again for being so new, and the times would not be what tells.
    await delay(50);
    await commitAll();
    appendFileSync(join(here, "append"), "more");
    truncateSync(join(here, "truncate"), 5);
    writeFileSync(join(here, "new"), "OONTENT OF over".repeat(10));
    renameSync(join(here, "new"), join(here, "over"));
    // The same size and the same time as before: only ctime tells.
    const { atimeMs, mtimeMs, size } = statSync(join(here, "times"));
    writeFileSync(join(here, "times"), Buffer.alloc(size, "z"));
    utimesSync(join(here, "times"), atimeMs / 1000, mtimeMs / 1000);
    chmodSync(join(here, "mode"), 0o600);
    rmSync(join(here, "gone"));
    renameSync(join(here, "moved"), join(here, "dir/moved"));
    renameSync(join(here, "dir/sub"), join(here, "sub2"));
    rmSync(join(here, "becomes-file"), { recursive: true });
    writeFileSync(join(here, "becomes-file"), "now a file");
    rmSync(join(here, "swap"));
    mkdirSync(join(here, "swap"));
    writeFileSync(join(here, "swap/inner"), "inner");
    rmSync(join(here, "link"));
    symlinkSync("b", join(here, "link"));
    const second = await commitAll();
    expect(second.delta?.set.some((entry) => entry.path === "same")).toBe(false);
    await expectRestoredEqual();
  });

  it("sees a rename over a file by one with the same size and times", async () => {
    writeFileSync(join(here, "a"), "AAAA");
    writeFileSync(join(here, "b"), "BBBB");
    utimesSync(join(here, "a"), 1000, 1000);
    utimesSync(join(here, "b"), 1000, 1000);
    await delay(50);
    await commitAll();
    renameSync(join(here, "b"), join(here, "a"));
    await commitAll();
    expect(readFileSync(join(here, "a"), "utf8")).toBe("BBBB");
    await expectRestoredEqual();
  });

  it("leaves out sockets, FIFOs and devices, drops set-id bits, and makes copies of hard links", async () => {
    run("mkfifo", join(here, "fifo"));
    run(
      "python3",
      "-c",
      "import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])",
      join(here, "socket"),
    );
    run("mknod", join(here, "device"), "c", "1", "3");
    writeFileSync(join(here, "setuid"), "x");
    chmodSync(join(here, "setuid"), 0o6755);
    writeFileSync(join(here, "one"), "linked");
    linkSync(join(here, "one"), join(here, "two"));
    const mirror = await copy.mirror();
    expect(mirror.leftOutCount).toBe(3);
    expect(mirror.leftOut.map(({ path, why }) => `${path} ${why}`).sort()).toEqual([
      "device special",
      "fifo special",
      "socket special",
    ]);
    await copy.commit(mirror, meta());
    const elsewhere = test.directory();
    using _ = await test.store.hydrate(REF, await test.store.readNewest(REF), elsewhere);
    expect(statSync(join(elsewhere, "setuid")).mode & 0o7777).toBe(0o755);
    expect(readdirSync(elsewhere).sort()).toEqual(["one", "setuid", "two"]);
    expect(statSync(join(elsewhere, "one")).ino).not.toBe(statSync(join(elsewhere, "two")).ino);
  });

  it("does not follow links when it mirrors", async () => {
    const outside = test.directory();
    writeFileSync(join(outside, "secret"), "secret");
    symlinkSync(outside, join(here, "out"));
    symlinkSync(join(outside, "secret"), join(here, "file"));
    const commit = await commitAll();
    expect(commit.entries).toBe(2);
    const table = await test.store.readTable(REF, commit);
    expect([...table.entries()].map((entry) => entry.type)).toEqual(["link", "link"]);
    await expect(test.store.openFile(REF, commit, "file")).rejects.toEqual(code("UNSAFE_PATH"));
  });

  it("gives what is made to the owner asked for", async () => {
    mkdirSync(join(here, "d"));
    writeFileSync(join(here, "d/f"), "x");
    symlinkSync("f", join(here, "d/l"));
    writeFileSync(join(here, "large"), Buffer.alloc(2 * 1024 * 1024, 1));
    await commitAll();
    const elsewhere = test.directory();
    const owner = { uid: 12_345, gid: 23_456 };
    using _ = await test.store.hydrate(REF, copy.base, elsewhere, { owner });
    for (const path of ["d", "d/f", "large"]) {
      const stats = statSync(join(elsewhere, path));
      expect([stats.uid, stats.gid]).toEqual([owner.uid, owner.gid]);
    }
  });

  it("needs at most 2 requests and 64 KiB for one changed file of 10,000", { timeout: 120_000 }, async () => {
    for (let directory = 0; directory < 100; directory++) {
      mkdirSync(join(here, `d${directory}`));
      for (let file = 0; file < 100; file++) {
        writeFileSync(join(here, `d${directory}/f${file}`), `content ${directory} ${file} `.repeat(20));
      }
    }
    await commitAll();
    for (let turn = 0; turn < 20; turn++) {
      writeFileSync(join(here, `d${turn}/f7`), `changed in turn ${turn} `.repeat(50));
      test.requests.length = 0;
      await commitAll();
      expect(test.requests.length).toBeLessThanOrEqual(2);
      expect(test.requests.reduce((sum, request) => sum + request.sent + request.received, 0)).toBeLessThan(
        64 * 1024,
      );
    }
    // Nor does a restore read one object per turn.
    test.requests.length = 0;
    await expectRestoredEqual();
    expect(test.requests.length).toBeLessThan(30);
  });

  it("stores content once, whatever file it is in, and only the changed part of a large one", async () => {
    const content = Buffer.from(Array.from({ length: 3_000_000 }, (_, i) => (i * 7919) % 251));
    writeFileSync(join(here, "one"), content);
    await commitAll();
    copyFileSync(join(here, "one"), join(here, "two"));
    renameSync(join(here, "one"), join(here, "three"));
    const copied = await copy.mirror();
    expect(copied.newBytes).toBe(0);
    await copy.commit(copied, meta());
    appendFileSync(join(here, "two"), "appended");
    const appended = await copy.mirror();
    expect(appended.newBytes).toBeLessThanOrEqual(1024 * 1024);
    await copy.commit(appended, meta());
    await expectRestoredEqual();
  });

  it("carries the note and all else a commit says", async () => {
    const note = { replies: [{ text: "Grüße" }], ends: ["m1"], nested: { deep: [1, null, true] } };
    const result = await copy.commit(
      "unchanged",
      meta({ kind: "takeover", epoch: 7, nonce: "abc", note, partial: true }),
    );
    const read = await test.store.readNewest(REF);
    expect(read).toMatchObject({
      generation: 1,
      parent: 0,
      epoch: 7,
      nonce: "abc",
      worker: "w1",
      kind: "takeover",
      partial: true,
      note,
      entries: 0,
      totalBytes: 0,
    });
    expect(read?.id).toBe(result.commit.id);
  });

  it("keeps the files through commits without a change", async () => {
    writeFileSync(join(here, "f"), "kept");
    await commitAll();
    for (let epoch = 2; epoch < 30; epoch++)
      await copy.commit("unchanged", meta({ epoch, kind: "takeover" }));
    const newest = await test.store.readNewest(REF);
    expect(newest?.generation).toBe(29);
    expect(newest?.chain.deltas).toEqual([1]);
    await expectRestoredEqual();
  });

  it("lists generations newest first, in pages", async () => {
    for (let epoch = 1; epoch <= 5; epoch++) await copy.commit("unchanged", meta({ epoch }));
    expect((await test.store.listCommits(REF)).map((commit) => commit.generation)).toEqual([5, 4, 3, 2, 1]);
    const page = await test.store.listCommits(REF, { before: 4, limit: 2 });
    expect(page.map((commit) => commit.epoch)).toEqual([3, 2]);
  });

  it("lets one of two writers with the same parent win, and tells the other whose generation it is", async () => {
    writeFileSync(join(here, "base"), "base");
    await commitAll();
    const there = test.directory();
    using other = await test.store.hydrate(REF, copy.base, there);
    writeFileSync(join(here, "mine"), "mine");
    writeFileSync(join(there, "theirs"), "theirs");
    const [mine, theirs] = await Promise.all([copy.mirror(), other.mirror()]);
    const results = await Promise.all([
      copy.commit(mine, meta({ epoch: 2, nonce: "mine" })),
      other.commit(theirs, meta({ epoch: 3, nonce: "theirs" })),
    ]);
    expect(results.map((result) => result.outcome).sort()).toEqual(["committed", "overtaken"]);
    expect(results[0]?.commit.id).toBe(results[1]?.commit.id);
    const newest = await test.store.readNewest(REF);
    expect(newest?.generation).toBe(2);
    expect(newest?.id).toBe(results[0]?.commit.id);
    const loser = results[0]?.outcome === "overtaken" ? copy : other;
    const loserDirectory = loser === copy ? here : there;
    expect(loser.base?.generation).toBe(1);
    // It adopts: the directory equals the winner's generation, and its own next commit builds on that.
    await loser.restore(newest);
    const winnerDirectory = loser === copy ? there : here;
    expect(fingerprint(loserDirectory)).toEqual(fingerprint(winnerDirectory));
    expect((await loser.commit("unchanged", meta({ epoch: 4 }))).commit.generation).toBe(3);
  });

  it("lets one of 50 writers win", async () => {
    const copies = await Promise.all(
      Array.from({ length: 50 }, () => test.store.hydrate(REF, undefined, test.directory())),
    );
    const results = await Promise.all(
      copies.map((writer, index) => writer.commit("unchanged", meta({ nonce: `n${index}` }))),
    );
    expect(results.filter((result) => result.outcome === "committed")).toHaveLength(1);
    expect(new Set(results.map((result) => result.commit.id)).size).toBe(1);
    for (const writer of copies) writer.close();
  });

  it("refuses an epoch below the parent's", async () => {
    await copy.commit("unchanged", meta({ epoch: 5 }));
    await expect(copy.commit("unchanged", meta({ epoch: 4 }))).rejects.toEqual(code("EPOCH_REGRESSED"));
    expect((await test.store.readNewest(REF))?.generation).toBe(1);
  });

  it("refuses a mirror of another base", async () => {
    writeFileSync(join(here, "f"), "x");
    const mirror = await copy.mirror();
    await copy.commit("unchanged", meta());
    await expect(copy.commit(mirror, meta())).rejects.toEqual(code("STALE_MIRROR"));
    await commitAll();
    await expectRestoredEqual();
  });

  it("shows nothing of a mirror that is not committed", async () => {
    writeFileSync(join(here, "f"), Buffer.alloc(200_000, 7));
    let read = 0;
    await copy.mirror({ onRead: () => read++ });
    expect(read).toBe(1);
    expect(await test.store.readNewest(REF)).toBeUndefined();
  });

  it("undoes what was done since the base", async () => {
    mkdirSync(join(here, "d"));
    for (const name of ["keep", "change", "delete", "d/inner"])
      writeFileSync(join(here, name), name.repeat(5));
    symlinkSync("keep", join(here, "link"));
    await commitAll();
    const before = fingerprint(here);
    writeFileSync(join(here, "change"), "changed");
    rmSync(join(here, "delete"));
    rmSync(join(here, "d"), { recursive: true });
    writeFileSync(join(here, "d"), "a file now");
    mkdirSync(join(here, "junk/deep"), { recursive: true });
    writeFileSync(join(here, "junk/deep/f"), "junk");
    rmSync(join(here, "link"));
    mkdirSync(join(here, "link"));
    run("mkfifo", join(here, "junk/fifo"));
    chmodSync(join(here, "keep"), 0o600);
    await copy.restore();
    expect(fingerprint(here)).toEqual(before);
    expect((await copy.mirror()).isEmpty).toBe(true);
  });

  it("tells what changed between generations, and rolls back to one without moving content", async () => {
    writeFileSync(join(here, "kept"), "kept");
    writeFileSync(join(here, "file"), randomBytes(100_000));
    const first = await commitAll();
    const before = fingerprint(here);
    writeFileSync(join(here, "file"), "partial work");
    writeFileSync(join(here, "junk"), "junk");
    const second = await commitAll();
    const delta = await test.store.diff(REF, first, second);
    expect(delta.set.map((entry) => entry.path).sort()).toEqual(["file", "junk"]);
    expect(delta.removed).toEqual([]);
    test.requests.length = 0;
    const result = await test.store.rollback(REF, second, first, meta({ epoch: 3, kind: "rollback" }));
    expect(result).toMatchObject({ outcome: "committed", commit: { generation: 3, parent: 2, epoch: 3 } });
    expect(test.requests.reduce((sum, request) => sum + request.sent, 0)).toBeLessThan(2000);
    await copy.restore(result.commit);
    expect(fingerprint(here)).toEqual(before);
    expect((await copy.mirror()).isEmpty).toBe(true);
    await expectRestoredEqual();
    const empty = await test.store.rollback(
      REF,
      result.commit,
      undefined,
      meta({ epoch: 3, kind: "rollback" }),
    );
    await copy.restore(empty.commit);
    expect(readdirSync(here)).toEqual([]);
  });

  it("goes back to generation 0", async () => {
    mkdirSync(join(here, "d"));
    writeFileSync(join(here, "d/f"), "x");
    await copy.restore();
    expect(readdirSync(here)).toEqual([]);
    expect((await copy.mirror()).isEmpty).toBe(true);
  });

  it("leaves out what patterns exclude", async () => {
    mkdirSync(join(here, "workspace/.cache/deep"), { recursive: true });
    writeFileSync(join(here, "workspace/.cache/deep/f"), "cached");
    writeFileSync(join(here, "workspace/a.tmp"), "temporary");
    writeFileSync(join(here, "workspace/kept"), "kept");
    const mirror = await copy.mirror({ exclude: ["**/.cache/**", "**/*.tmp"] });
    await copy.commit(mirror, meta());
    const table = await test.store.readTable(REF, copy.base as Commit);
    expect([...table.paths()].map(textOfPath).sort()).toEqual([
      "workspace",
      "workspace/.cache",
      "workspace/kept",
    ]);
  });

  it.each([
    ["files", { files: 2 }, 3],
    ["bytes", { bytes: 10 }, 12],
    ["fileBytes", { fileBytes: 5 }, 6],
    ["pathBytes", { pathBytes: 5 }, 6],
  ] as const)(
    "refuses to exceed the quota on %s, and leaves the last generation",
    async (quota, limits, actual) => {
      writeFileSync(join(here, "a"), "123456");
      writeFileSync(join(here, "b"), "123456");
      if (quota === "files") writeFileSync(join(here, "c"), "");
      if (quota === "pathBytes") writeFileSync(join(here, "longer"), "");
      await expect(copy.mirror({ quota: limits })).rejects.toMatchObject({
        code: "QUOTA_EXCEEDED",
        quota,
        limit: Object.values(limits)[0],
        actual,
      });
      expect(await test.store.readNewest(REF)).toBeUndefined();
      await commitAll();
      await expectRestoredEqual();
    },
  );

  it("refuses a sparse file above its quota before it reads it", async () => {
    writeFileSync(join(here, "sparse"), "");
    truncateSync(join(here, "sparse"), 1024 ** 4);
    await expect(copy.mirror({ quota: { fileBytes: 1024 ** 3 } })).rejects.toEqual(code("QUOTA_EXCEEDED"));
  });

  it("refuses to restore into a directory that is not empty", async () => {
    writeFileSync(join(here, "f"), "x");
    await commitAll();
    const used = test.directory();
    writeFileSync(join(used, "something"), "");
    await expect(test.store.hydrate(REF, copy.base, used)).rejects.toEqual(code("DIRECTORY_NOT_EMPTY"));
    expect(readdirSync(used)).toEqual(["something"]);
  });

  it("gives no working copy where a part of the restore fails", async () => {
    writeFileSync(join(here, "small"), "x");
    writeFileSync(join(here, "large"), Buffer.alloc(2_000_000, "some content "));
    writeFileSync(join(here, "other"), randomBytes(200_000));
    const commit = await commitAll();
    const packs = (await test.backend.list("acme/sessions/s1/pack/")).objects.map((object) => object.key);
    await test.backend.delete(packs);
    const elsewhere = test.directory();
    await expect(test.store.hydrate(REF, commit, elsewhere)).rejects.toEqual(code("OBJECT_NOT_FOUND"));
    await expect(test.store.hydrate(REF, commit, elsewhere)).rejects.toThrow();
  });

  it("reads files of a generation without restoring it, in ranges too", async () => {
    const large = Buffer.from(Array.from({ length: 6_000_000 }, (_, i) => (i * 7919) % 253));
    mkdirSync(join(here, "workspace"));
    writeFileSync(join(here, "workspace/large"), large);
    writeFileSync(join(here, "workspace/small"), "small");
    const commit = await commitAll();
    const whole = await test.store.openFile(REF, commit, "workspace/large");
    expect(whole.entry.size).toBe(large.length);
    expect((await collect(whole.stream())).equals(large)).toBe(true);
    for (const [start, end] of [
      [0, 1],
      [1_048_570, 1_048_590],
      [3_000_000, 5_999_999],
      [5_999_999, 9_000_000],
    ] as const) {
      const part = await test.store.openFile(REF, commit, "workspace/large", { range: { start, end } });
      expect((await collect(part.stream())).equals(large.subarray(start, end))).toBe(true);
    }
    await expect(test.store.openFile(REF, commit, "workspace")).rejects.toEqual(code("UNSAFE_PATH"));
    await expect(test.store.openFile(REF, commit, "none")).rejects.toEqual(code("PATH_NOT_FOUND"));
    await expect(test.store.openFile(REF, commit, "../x")).rejects.toEqual(code("UNSAFE_PATH"));
  });

  it("keeps attachments and artifacts", async () => {
    const content = Buffer.alloc(9_000_000, "attachment ");
    const stored = await test.store.putInbound(REF, content);
    expect(await test.store.putInbound(REF, content)).toEqual(stored);
    const opened = await test.store.openInbound(REF, stored.sha256);
    expect((await collect(opened.stream())).equals(content)).toBe(true);
    await test.store.putArtifact(REF, "a1", "../Über/x.txt", Buffer.from("artifact"));
    const artifact = await test.store.openArtifact(REF, "a1", "../Über/x.txt", {
      range: { start: 3, end: 100 },
    });
    expect(artifact.sizeBytes).toBe(8);
    expect((await collect(artifact.stream())).toString()).toBe("ifact");
    await expect(test.store.openArtifact(REF, "none", "x")).rejects.toEqual(code("OBJECT_NOT_FOUND"));
  });

  it("lists the volumes of a tenant by their names, and collects each", async () => {
    const names = ["memory", "persistent/http/ada@example.org", "persistent/http/~0f", ".x", "ü %41"];
    for (const volume of names) {
      using copy = await test.store.hydrate({ tenant: "acme", volume }, undefined, test.directory());
      await copy.commit("unchanged", meta());
    }
    expect((await test.store.listVolumes("acme")).sort()).toEqual([...names].sort());
    const after = (await test.store.listVolumes("acme", { limit: 2 })).at(-1);
    expect(await test.store.listVolumes("acme", { after })).toHaveLength(3);
    expect(await test.store.listVolumes("other")).toEqual([]);
    const collected = collectVolumes(test.store, "acme", {
      retentionOf: () => ({ generations: 1, days: 0 }),
    });
    const reports: CollectedVolume[] = [];
    for await (const report of collected) reports.push(report);
    expect(reports.map(({ volume }) => volume).sort()).toEqual([...names].sort());
    for (const report of reports) expect(report).toMatchObject({ report: { generations: 1 } });
  });

  it("lists the sessions of a tenant in pages", async () => {
    for (const sessionId of ["a", "a-b", "b", "c0"]) {
      using other = await test.store.hydrate({ tenant: "acme", sessionId }, undefined, test.directory());
      await other.commit("unchanged", meta());
    }
    using foreign = await test.store.hydrate(
      { tenant: "other", sessionId: "z" },
      undefined,
      test.directory(),
    );
    await foreign.commit("unchanged", meta());
    expect((await test.store.listSessions("acme")).sort()).toEqual(["a", "a-b", "b", "c0"]);
    const paged: string[] = [];
    for (let after: string | undefined; ; ) {
      const page = await test.store.listSessions(
        "acme",
        after === undefined ? { limit: 2 } : { after, limit: 2 },
      );
      if (page.length === 0) break;
      paged.push(...page);
      after = page.at(-1);
    }
    expect(paged.sort()).toEqual(["a", "a-b", "b", "c0"]);
  });

  it.each(["../x", "a/b", "", ".hidden", "a\0b"])("refuses %j as a tenant or session", async (name) => {
    await expect(
      test.store.hydrate({ tenant: name, sessionId: "s" }, undefined, test.directory()),
    ).rejects.toEqual(code("BAD_STORE_NAME"));
    await expect((async () => test.store.readNewest({ tenant: "t", sessionId: name }))()).rejects.toEqual(
      code("BAD_STORE_NAME"),
    );
  });

  it("works on while files change under it: every change is in this generation or the next", async () => {
    chownSync(here, process.getuid?.() ?? 0, process.getgid?.() ?? 0);
    for (let file = 0; file < 200; file++) writeFileSync(join(here, `f${file}`), "start".repeat(100));
    const stop = new AbortController();
    const writing = (async () => {
      for (let round = 0; !stop.signal.aborted; round++) {
        const name = join(here, `f${round % 250}`);
        if (round % 7 === 0) rmSync(name, { force: true });
        else writeFileSync(name, `round ${round} `.repeat(round % 300));
        if (round % 5 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    const mirrors: Mirror[] = [];
    for (let turn = 0; turn < 5; turn++) {
      const mirror = await copy.mirror();
      mirrors.push(mirror);
      await copy.commit(mirror, meta());
    }
    stop.abort();
    await writing;
    await commitAll();
    await expectRestoredEqual();
  });
});
