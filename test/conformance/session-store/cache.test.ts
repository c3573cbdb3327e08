import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type CacheEvent, type Commit, SessionStore } from "@longshore/session-store";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type CountedRequest,
  collect,
  fingerprint,
  meta,
  REF,
  type StoreKind,
  storeKinds,
  TestStore,
} from "./support.ts";

const MIB = 1024 * 1024;

/** A store with a cache, what it asked of its backend and what its cache told. */
interface CachedStore {
  readonly store: SessionStore;
  readonly requests: CountedRequest[];
  readonly events: { readonly event: CacheEvent; readonly bytes: number; readonly error?: unknown }[];
}

/** The files of a cache and of its staging directory. */
function filesIn(directory: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, encoding: "utf8" })
    .map((name) => join(directory, name))
    .filter((path) => lstatSync(path).isFile() && !path.endsWith("/usage"));
}

function bytesIn(directory: string): number {
  return filesIn(directory).reduce((sum, path) => sum + statSync(path).size, 0);
}

describe.each(storeKinds)("chunk cache over %s", (kind: StoreKind) => {
  let test: TestStore;
  let directory: string;
  let stores: SessionStore[];
  let mounts: string[];

  beforeEach(async () => {
    test = await TestStore.open(kind);
    directory = join(test.scratch, "chunk-cache");
    stores = [];
    mounts = [];
  });

  afterEach(async () => {
    for (const store of stores) await store.close();
    for (const mount of mounts) execFileSync("umount", [mount]);
    await test[Symbol.asyncDispose]();
  });

  function open(maxBytes = 1024 * MIB, at = directory, nowMs = () => Date.now()): CachedStore {
    const requests: CountedRequest[] = [];
    const events: CachedStore["events"] = [];
    const store = new SessionStore({
      backend: test.openBackend({
        onRequest: (operation, outcome, sent, received) =>
          requests.push({ operation, outcome, sent, received }),
      }),
      cache: {
        directory: at,
        maxBytes,
        onEvent: (event, bytes, error) => events.push({ event, bytes, error }),
      },
      clock: { now: nowMs, monotonic: () => performance.now() },
    });
    stores.push(store);
    return { store, requests, events };
  }

  /** Ends a store, which waits until all is stored. */
  async function close({ store }: CachedStore): Promise<void> {
    stores.splice(stores.indexOf(store), 1);
    await store.close();
  }

  /** A generation of many small files, a large one, and a full table of its own. */
  async function commitFiles(files = 600, largeBytes = 3 * MIB, ref = REF): Promise<Commit> {
    const base = await test.store.readNewest(ref);
    const set = [
      ...Array.from({ length: files }, (_, at) => ({
        path: `d${at % 7}/f${at}`,
        content: Buffer.from(randomBytes(1500).toString("hex")),
      })),
      { path: "large", content: randomBytes(largeBytes) },
    ];
    return (await test.store.commitFiles(ref, base, { set }, meta())).commit;
  }

  async function restore(cached: CachedStore, commit: Commit, ref = REF): Promise<Record<string, string>> {
    const tree = test.directory();
    using _ = await cached.store.hydrate(ref, commit, tree);
    const seen = fingerprint(tree);
    rmSync(tree, { recursive: true });
    return seen;
  }

  /** What a restore without any cache makes. */
  async function expected(commit: Commit, ref = REF): Promise<Record<string, string>> {
    const tree = test.directory();
    using _ = await test.store.hydrate(ref, commit, tree);
    return fingerprint(tree);
  }

  /** A cache that holds a generation. */
  async function filled(commit: Commit): Promise<void> {
    const cached = open();
    await restore(cached, commit);
    await close(cached);
    expect(bytesIn(directory)).toBeGreaterThan(3 * MIB);
  }

  it("spares a second restore every request", async () => {
    const commit = await commitFiles();
    await filled(commit);
    const again = open();
    expect(await restore(again, commit)).toEqual(await expected(commit));
    expect(again.requests).toEqual([]);
    expect(new Set(again.events.map(({ event }) => event))).toEqual(new Set(["hit"]));
    for (const path of [directory, ...filesIn(directory)]) expect(statSync(path).mode & 0o077, path).toBe(0);
  });

  it("holds what a mirror stored, and what a restore over another generation needed", async () => {
    const cached = open();
    using copy = await cached.store.hydrate(REF, undefined, test.directory());
    writeFileSync(join(copy.directory, "large"), randomBytes(2 * MIB));
    for (let at = 0; at < 100; at++) writeFileSync(join(copy.directory, `f${at}`), randomBytes(1000));
    await copy.commit(await copy.mirror(), meta());
    await close(cached);
    const elsewhere = open();
    using other = await elsewhere.store.hydrate(REF, copy.base, test.directory());
    expect(elsewhere.requests.filter(({ received }) => received > 64 * 1024)).toEqual([]);
    rmSync(join(other.directory, "large"));
    await other.restore();
    expect(elsewhere.requests.filter(({ received }) => received > 64 * 1024)).toEqual([]);
    expect(fingerprint(other.directory)).toEqual(fingerprint(copy.directory));
  });

  it("fetches only the part that it has not", async () => {
    const commit = await commitFiles(600, 8 * MIB);
    await filled(commit);
    for (const [at, path] of filesIn(directory).entries()) if (at % 3 === 0) rmSync(path);
    const again = open();
    expect(await restore(again, commit)).toEqual(await expected(commit));
    const received = again.requests.reduce((sum, request) => sum + request.received, 0);
    expect(received).toBeGreaterThan(0);
    expect(received).toBeLessThan(8 * MIB);
    await close(again);
    const third = open();
    await restore(third, commit);
    expect(third.requests).toEqual([]);
  });

  it.each([
    ["changed in one bit", (path: string) => flip(path)],
    ["cut short", (path: string) => truncateSync(path, Math.floor(statSync(path).size / 2))],
    ["empty", (path: string) => truncateSync(path, 0)],
    ["longer", (path: string) => truncateSync(path, statSync(path).size + 5)],
    ["other bytes", (path: string) => writeFileSync(path, randomBytes(statSync(path).size))],
  ])("heals files that are %s", async (_, damage) => {
    const commit = await commitFiles();
    await filled(commit);
    for (const path of filesIn(directory)) damage(path);
    const again = open();
    expect(await restore(again, commit)).toEqual(await expected(commit));
    expect(again.requests.length).toBeGreaterThan(0);
    await close(again);
    const healed = open();
    expect(await restore(healed, commit)).toEqual(await expected(commit));
    expect(healed.requests).toEqual([]);
  });

  it("serves and heals files that are opened one by one", async () => {
    const commit = await commitFiles();
    await filled(commit);
    const files = [...(await test.store.readTable(REF, commit)).entries()].filter(
      ({ type }) => type === "file",
    );
    for (const damaged of [false, true]) {
      if (damaged) for (const path of filesIn(directory)) flip(path);
      const again = open();
      for (const { path } of files) {
        const [ours, right] = await Promise.all(
          [again.store, test.store].map(async (store) =>
            collect((await store.openFile(REF, commit, path)).stream()),
          ),
        );
        expect(ours?.equals(right as Buffer), path).toBe(true);
      }
      expect(again.requests.length > 0).toBe(damaged);
      await close(again);
    }
  });

  it("keeps nothing of an object that is damaged in the store", async () => {
    const commit = await commitFiles(10, 3 * MIB);
    const [pack] = (await test.backend.list("acme/sessions/s1/pack/")).objects;
    const content = await test.backend.get(pack?.key ?? "");
    await test.backend.replace(pack?.key ?? "", Buffer.alloc(content.length, 7));
    const cached = open();
    for (let round = 0; round < 2; round++)
      await expect(restore(cached, commit)).rejects.toMatchObject({ code: "STORE_CORRUPT", key: pack?.key });
    await close(cached);
    await test.backend.replace(pack?.key ?? "", content);
    const again = open();
    expect(await restore(again, commit)).toEqual(await expected(commit));
    expect(again.events.filter(({ event }) => event === "bad")).toEqual([]);
  });

  it("gives nothing of one session to another", async () => {
    const commit = await commitFiles();
    await filled(commit);
    const other = { tenant: "other", sessionId: "s1" };
    for (const { key } of (await test.backend.list("acme/")).objects) {
      if (key.includes("/pack/")) continue;
      await test.backend.putIfAbsent(key.replace("acme/", "other/"), await test.backend.get(key));
    }
    const thief = open();
    await expect(restore(thief, commit, other as typeof REF)).rejects.toMatchObject({
      code: "OBJECT_NOT_FOUND",
    });
  });

  it("keeps its bound, and what was used last", async () => {
    const used = await commitFiles(10, 2 * MIB, { tenant: "acme", sessionId: "used" });
    let now = Date.now() - 100 * 3_600_000;
    const bound = 12 * MIB;
    const cached = open(bound, directory, () => now);
    const ref = { tenant: "acme", sessionId: "used" };
    for (let round = 0; round < 8; round++) {
      now += 3_600_000;
      for (const path of filesIn(directory)) {
        // As if all happened an hour earlier: what is stored now bears the time of the disk's clock.
        const { mtimeMs } = statSync(path);
        if (mtimeMs > now) utimesSync(path, now / 1000, now / 1000);
      }
      await restore(cached, used, ref);
      const sessionId = `s${round}`;
      await restore(cached, await commitFiles(10, 3 * MIB, { tenant: "acme", sessionId }), {
        tenant: "acme",
        sessionId,
      });
      await expect
        .poll(() => cached.events.filter(({ event }) => event === "stored").length)
        .toBeGreaterThan(0);
      await settled(cached);
      expect(bytesIn(directory)).toBeLessThanOrEqual(bound);
    }
    expect(cached.events.some(({ event }) => event === "evicted")).toBe(true);
    cached.requests.length = 0;
    await restore(cached, used, ref);
    expect(cached.requests).toEqual([]);
  });

  it("is made smaller when its bound is", async () => {
    await filled(await commitFiles(10, 12 * MIB));
    expect(bytesIn(directory)).toBeGreaterThan(12 * MIB);
    const smaller = open(4 * MIB);
    const ref = { tenant: "acme", sessionId: "s2" };
    await restore(smaller, await commitFiles(10, 1 * MIB, ref), ref);
    await close(smaller);
    expect(bytesIn(directory)).toBeLessThanOrEqual(4 * MIB);
    expect(bytesIn(directory)).toBeGreaterThan(0);
  });

  it("gives up when the disk is full, says so once, and restores go on", async () => {
    const commit = await commitFiles(100, 6 * MIB);
    const disk = mount("size=4m,mode=755");
    const cached = open(1024 * MIB, join(disk, "cache"));
    writeFileSync(join(disk, "somebody else's"), Buffer.alloc(3.9 * MIB));
    for (let round = 0; round < 3; round++) {
      expect(await restore(cached, commit)).toEqual(await expected(commit));
      await settled(cached);
    }
    expect(cached.events.filter(({ event }) => event === "failed").length).toBeLessThanOrEqual(1);
    expect(cached.events.some(({ event }) => event === "dropped" || event === "failed")).toBe(true);
    expect(filesIn(join(disk, "cache", "staging"))).toEqual([]);
  });

  it("leaves room on a disk that is smaller than its bound", async () => {
    const commit = await commitFiles(100, 20 * MIB);
    const disk = mount("size=16m,mode=755");
    const cached = open(1024 * MIB, join(disk, "cache"));
    expect(await restore(cached, commit)).toEqual(await expected(commit));
    await settled(cached);
    await restore(cached, commit);
    await settled(cached);
    expect(bytesIn(join(disk, "cache"))).toBeGreaterThan(8 * MIB);
    writeFileSync(join(disk, "somebody else's"), Buffer.alloc(0.7 * MIB));
    expect(cached.events.filter(({ event }) => event === "failed")).toEqual([]);
  });

  it("is read where it may not be written to", async () => {
    const commit = await commitFiles();
    const disk = mount("size=64m,mode=755");
    const first = open(1024 * MIB, join(disk, "cache"));
    await restore(first, commit);
    await close(first);
    execFileSync("mount", ["-o", "remount,ro", disk]);
    const cached = open(1024 * MIB, join(disk, "cache"));
    expect(await restore(cached, commit)).toEqual(await expected(commit));
    expect(cached.requests).toEqual([]);
    const ref = { tenant: "acme", sessionId: "s2" };
    const other = await commitFiles(100, 2 * MIB, ref);
    for (let round = 0; round < 2; round++) {
      expect(await restore(cached, other, ref)).toEqual(await expected(other, ref));
      await settled(cached);
    }
    expect(cached.events.filter(({ event }) => event === "failed")).toHaveLength(1);
    expect(cached.events.find(({ event }) => event === "failed")?.error).toMatchObject({ code: "EROFS" });
  });

  it("is done without where its directory can't be made", async () => {
    const commit = await commitFiles(10);
    writeFileSync(join(test.scratch, "file"), "");
    const cached = open(1024 * MIB, join(test.scratch, "file", "cache"));
    expect(cached.events).toMatchObject([{ event: "failed" }]);
    expect(await restore(cached, commit)).toEqual(await expected(commit));
  });

  it("is made again when it is removed under us", async () => {
    const commit = await commitFiles();
    const cached = open();
    await restore(cached, commit);
    await settled(cached);
    rmSync(directory, { recursive: true });
    expect(await restore(cached, commit)).toEqual(await expected(commit));
    await settled(cached);
    expect(cached.events.filter(({ event }) => event === "failed")).toEqual([]);
    cached.requests.length = 0;
    expect(await restore(cached, commit)).toEqual(await expected(commit));
    expect(cached.requests).toEqual([]);
  });

  it.each([
    ["can be written to by others", { mode: 0o777 }],
    ["can be written to by its group", { mode: 0o770 }],
    ["is somebody else's", { owner: 1234 }],
    ["is a link", { link: true }],
  ])(
    "is refused where it %s",
    (_, { mode = 0o700, owner = 0, link = false }: { mode?: number; owner?: number; link?: boolean }) => {
      const made = link ? `${directory}-elsewhere` : directory;
      mkdirSync(made);
      chmodSync(made, mode);
      if (owner !== 0) chownSync(made, owner, owner);
      if (link) symlinkSync(made, directory);
      expect(() => open()).toThrow(expect.objectContaining({ code: "CACHE_UNTRUSTED" }));
    },
  );

  it("is shared by processes, which are killed while they write", { timeout: 180_000 }, async () => {
    const commit = await commitFiles(300, 6 * MIB);
    const right = await expected(commit);
    const program = fileURLToPath(new URL("programs/restore-with-cache.ts", import.meta.url));
    const start = (): ChildProcess =>
      spawn(process.execPath, [program, test.url, directory, test.scratch, String(8 * MIB)], {
        stdio: ["ignore", "pipe", "inherit"],
      });
    for (let round = 0; round < 3; round++) {
      const both = [start(), start()];
      // Where two restores are over at once, one of them stores: the bound is less than the session.
      await Promise.all(both.map((child) => once(child.stdout as NodeJS.ReadableStream, "data")));
      const exits = both.map((child) => once(child, "exit"));
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 100));
      for (const child of both) child.kill("SIGKILL");
      await Promise.all(exits);
      const cached = open(8 * MIB);
      expect(await restore(cached, commit)).toEqual(right);
      await close(cached);
      expect(bytesIn(directory)).toBeLessThan(10 * MIB);
    }
    // What the killed ones left half written goes with a later look, when nobody can be writing it any more.
    mkdirSync(join(directory, "staging"), { recursive: true });
    writeFileSync(join(directory, "staging/left-over"), randomBytes(MIB));
    const later = open(8 * MIB, directory, () => Date.now() + 3_600_000);
    const ref = { tenant: "acme", sessionId: "s2" };
    await restore(later, await commitFiles(10, 8 * MIB, ref), ref);
    await close(later);
    expect(filesIn(join(directory, "staging"))).toEqual([]);
    expect(bytesIn(directory)).toBeLessThanOrEqual(8 * MIB);
  });

  /** A small file system of its own. */
  function mount(options: string): string {
    const at = join(test.scratch, `disk-${mounts.length}`);
    mkdirSync(at);
    execFileSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", at]);
    mounts.push(at);
    return at;
  }

  /** Waits until nothing waits to be stored: what is told comes to what was fetched. */
  async function settled({ events }: CachedStore): Promise<void> {
    const sum = (...kinds: CacheEvent[]) =>
      events.filter(({ event }) => kinds.includes(event)).reduce((total, { bytes }) => total + bytes, 0);
    await expect.poll(() => sum("stored", "dropped", "failed")).toBe(sum("miss"));
  }
});

/** Changes one bit in the middle of a file. */
function flip(path: string): void {
  const content = readFileSync(path);
  const at = content.length >> 1;
  content[at] = (content[at] ?? 0) ^ 0x10;
  writeFileSync(path, content);
}
