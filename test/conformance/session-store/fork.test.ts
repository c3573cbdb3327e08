import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Commit, SessionStore, WorkingCopy } from "@longshore/session-store";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  DAY_MS,
  HOUR_MS,
  keysOf,
  restoredTree,
  StoreTime,
  type TimedBackend,
  timedStore,
} from "./store-time.ts";
import {
  collect as bytesOf,
  fingerprint,
  meta,
  REF,
  type StoreKind,
  storeKinds,
  TestStore,
} from "./support.ts";

const KEEP_ONE = { generations: 1, days: 0 };
const PACKED = 40_000;
const FORK = { tenant: "acme", sessionId: "fork" };
const SECOND = { tenant: "acme", sessionId: "second" };
const FORKED = meta({ kind: "fork" });

describe.each(storeKinds)("a fork on %s", { timeout: 60_000 }, (kind: StoreKind) => {
  let test: TestStore;
  let time: StoreTime;
  let store: SessionStore;
  let backend: TimedBackend;
  let here: string;
  let copy: WorkingCopy;

  beforeEach(async () => {
    test = await TestStore.open(kind);
    time = new StoreTime();
    ({ store, backend } = timedStore(test, time));
    here = test.directory();
    copy = await store.hydrate(REF, undefined, here);
  });

  afterEach(async () => {
    copy.close();
    await store.close();
    await test[Symbol.asyncDispose]();
  });

  async function turn(): Promise<Commit> {
    writeFileSync(join(here, "packed"), randomBytes(PACKED));
    writeFileSync(join(here, "inline"), randomBytes(100));
    const result = await copy.commit(await copy.mirror(), meta());
    return result.commit;
  }

  async function collectAll(runs = 3): Promise<void> {
    for (let run = 0; run < runs; run++) {
      time.skip(DAY_MS + HOUR_MS);
      for (const sessionId of await store.listSessions("acme"))
        await store.collect({ tenant: "acme", sessionId }, { retention: KEEP_ONE });
    }
  }

  const pins = () => keysOf(test, "acme/sessions/s1/pins/");

  it("has the files of its generation and moves no content", async () => {
    const commit = await turn();
    const tree = fingerprint(here);
    test.requests.length = 0;
    const result = await store.fork(REF, commit, FORK, FORKED);
    expect(result).toMatchObject({
      outcome: "committed",
      commit: { generation: 1, kind: "fork", origins: [{ sessionId: "s1", generation: 1 }] },
    });
    expect(await keysOf(test, "acme/sessions/fork/pack/")).toEqual([]);
    expect(await restoredTree(test, store, FORK, 1)).toEqual(tree);
    const file = await store.openFile(FORK, result.commit, "inline", { range: { start: 10, end: 20 } });
    expect((await bytesOf(file.stream())).length).toBe(10);
  });

  it("goes its own way, and outlives everything of the session that it comes from", async () => {
    const commit = await turn();
    const tree = fingerprint(here);
    await store.fork(REF, commit, FORK, FORKED);
    for (let turns = 0; turns < 30; turns++) await turn();
    const directory = test.directory();
    using other = await store.hydrate(FORK, await store.readNewest(FORK), directory);
    expect(fingerprint(directory)).toEqual(tree);
    writeFileSync(join(directory, "own"), randomBytes(PACKED));
    await other.commit(await other.mirror(), meta());
    const changed = fingerprint(directory);
    await collectAll();
    expect(await restoredTree(test, store, FORK, 2)).toEqual(changed);
    expect(await restoredTree(test, store, REF, 31)).toEqual(fingerprint(here));
    expect(await pins()).toHaveLength(1);
  });

  it("is refused where the session has generations already", async () => {
    const commit = await turn();
    await store.fork(REF, commit, FORK, FORKED);
    expect(await store.fork(REF, commit, FORK, FORKED)).toMatchObject({
      outcome: "overtaken",
      commit: { generation: 1, kind: "fork" },
    });
    expect(await store.fork(REF, commit, REF, FORKED)).toMatchObject({ outcome: "overtaken" });
    expect(await pins()).toHaveLength(1);
    await expect(store.fork(REF, commit, { tenant: "other", sessionId: "x" }, FORKED)).rejects.toMatchObject({
      code: "BAD_STORE_NAME",
    });
  });

  it("lets one of two that are made at once win, and keeps what that one needs", async () => {
    const first = await turn();
    const second = await turn();
    const results = await Promise.all([first, second].map((commit) => store.fork(REF, commit, FORK, FORKED)));
    expect(results.map((result) => result.outcome).sort()).toEqual(["committed", "overtaken"]);
    for (let turns = 0; turns < 20; turns++) await turn();
    const tree = await restoredTree(test, store, FORK, 1);
    await collectAll();
    expect(await restoredTree(test, store, FORK, 1)).toEqual(tree);
    expect(await pins()).toHaveLength(1);
  });

  it("of a fork needs neither of the two to live on", async () => {
    const commit = await turn();
    await store.fork(REF, commit, FORK, FORKED);
    const directory = test.directory();
    using other = await store.hydrate(FORK, await store.readNewest(FORK), directory);
    writeFileSync(join(directory, "own"), randomBytes(PACKED));
    const changed = (await other.commit(await other.mirror(), meta())).commit;
    const tree = fingerprint(directory);
    const result = await store.fork(FORK, changed, SECOND, FORKED);
    expect(result.commit.origins).toEqual([
      { sessionId: "fork", generation: 2 },
      { sessionId: "s1", generation: 1 },
    ]);
    // The first session and the fork drop all of it.
    for (let turns = 0; turns < 30; turns++) await turn();
    for (let turns = 0; turns < 30; turns++) {
      for (const name of ["packed", "inline", "own"])
        writeFileSync(join(directory, name), randomBytes(PACKED));
      await other.commit(await other.mirror(), meta());
    }
    await collectAll(4);
    expect(await restoredTree(test, store, SECOND, 1)).toEqual(tree);
    expect(await pins()).toHaveLength(1);
    expect((await pins())[0]).toContain("/pins/second/");
  });

  it("releases what it needed once no generation of it does", async () => {
    const commit = await turn();
    await store.fork(REF, commit, FORK, FORKED);
    for (let turns = 0; turns < 20; turns++) await turn();
    await collectAll();
    const before = (await keysOf(test, "acme/sessions/s1/pack/")).length;
    const directory = test.directory();
    using other = await store.hydrate(FORK, await store.readNewest(FORK), directory);
    for (let turns = 0; turns < 30; turns++) {
      for (const name of ["packed", "inline"]) writeFileSync(join(directory, name), randomBytes(PACKED));
      await other.commit(await other.mirror(), meta());
    }
    await collectAll(6);
    expect(await pins()).toEqual([]);
    expect((await keysOf(test, "acme/sessions/s1/pack/")).length).toBeLessThan(before);
    expect(await restoredTree(test, store, FORK, 31)).toEqual(fingerprint(directory));
  });

  it("that died after its pin leaves nothing for ever", async () => {
    const commit = await turn();
    backend.onRequest = ({ operation, key, phase }) => {
      if (operation === "put" && key.includes("/sessions/fork/") && phase === "before")
        throw new Error("killed");
      if (operation === "delete") throw new Error("killed");
    };
    await expect(store.fork(REF, commit, FORK, FORKED)).rejects.toThrow("killed");
    backend.onRequest = () => undefined;
    expect(await pins()).toHaveLength(1);
    await store.collect(REF, { retention: KEEP_ONE });
    expect(await pins()).toHaveLength(1);
    await collectAll(1);
    expect(await pins()).toEqual([]);
  });

  it("is refused for a generation that is given up", async () => {
    const commit = await turn();
    for (let turns = 0; turns < 20; turns++) await turn();
    await collectAll(1);
    await expect(store.fork(REF, commit, FORK, FORKED)).rejects.toThrow(/expiring/);
    await collectAll(2);
    await expect(store.fork(REF, commit, FORK, FORKED)).rejects.toMatchObject({
      code: "GENERATION_NOT_FOUND",
    });
    expect(await store.readNewest(FORK)).toBeUndefined();
    expect(await pins()).toEqual([]);
  });

  it.each(["list", "put"])("is safe from a collector that begins with its %s", async (operation) => {
    const commit = await turn();
    const tree = fingerprint(here);
    for (let turns = 0; turns < 20; turns++) await turn();
    time.skip(2 * DAY_MS);
    let collected = false;
    backend.onRequest = async (request) => {
      const isThere = request.key.includes(operation === "put" ? "/sessions/fork/log/" : "/sessions/s1/gc/");
      if (collected || request.phase !== "before" || request.operation !== operation || !isThere) return;
      collected = true;
      await store.collect(REF, { retention: KEEP_ONE });
    };
    const outcome = await store.fork(REF, commit, FORK, FORKED).then(
      () => "committed",
      () => "refused",
    );
    expect(collected).toBe(true);
    await collectAll(4);
    if (outcome === "committed") expect(await restoredTree(test, store, FORK, 1)).toEqual(tree);
    else expect(await store.readNewest(FORK)).toBeUndefined();
  });

  it("takes itself back when it was stopped while all it needed was deleted", async () => {
    const commit = await turn();
    for (let turns = 0; turns < 20; turns++) await turn();
    let done = false;
    backend.onRequest = async ({ operation, key, phase }) => {
      if (done || phase !== "before" || operation !== "put" || !key.includes("/sessions/fork/log/")) return;
      done = true;
      await collectAll(4);
    };
    await expect(store.fork(REF, commit, FORK, FORKED)).rejects.toMatchObject({
      code: "GENERATION_NOT_FOUND",
    });
    expect(await store.readNewest(FORK)).toBeUndefined();
  });

  it("can be rolled back to what it began with", async () => {
    const commit = await turn();
    const tree = fingerprint(here);
    await store.fork(REF, commit, FORK, FORKED);
    for (let turns = 0; turns < 20; turns++) await turn();
    const directory = test.directory();
    using other = await store.hydrate(FORK, await store.readNewest(FORK), directory);
    for (let turns = 0; turns < 30; turns++) {
      for (const name of ["packed", "inline"]) writeFileSync(join(directory, name), randomBytes(PACKED));
      await other.commit(await other.mirror(), meta());
    }
    const newest = other.base as Commit;
    expect(newest.origins).toBeUndefined();
    // The session it comes from would give up all of it, but for what the fork may still go back to. Of its generations one
    // that comes from there says so; the one above it, which does not, is answered last.
    let last = 1;
    while ((await store.readCommit(FORK, last + 1)).origins !== undefined) last++;
    const late = `/sessions/fork/log/${10 ** 15 - 1 - (last + 1)}`;
    for (let run = 0; run < 3; run++) {
      time.skip(DAY_MS + HOUR_MS);
      const others = Promise.withResolvers<void>();
      let underWay = 0;
      backend.onRequest = async ({ operation, key, phase }) => {
        if (operation !== "get" || !key.includes("/sessions/fork/log/")) return;
        if (phase === "before") underWay++;
        else if (key.endsWith(late)) await others.promise;
        else {
          underWay--;
          // Once its caller has gone on.
          setImmediate(() => underWay === 1 && others.resolve());
        }
      };
      await store.collect(REF, { retention: KEEP_ONE });
      backend.onRequest = () => undefined;
      await store.collect(FORK, { retention: { generations: 100, days: 0 } });
    }
    const back = await store.rollback(FORK, newest, await store.readCommit(FORK, 1), meta());
    expect(back.commit.origins).toEqual([{ sessionId: "s1", generation: 1 }]);
    await collectAll(4);
    expect(await restoredTree(test, store, FORK, 32)).toEqual(tree);
  });
});
