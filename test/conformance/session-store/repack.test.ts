import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Commit, SessionStore } from "@longshore/session-store";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DAY_MS, keysOf, restoredTree, StoreTime, type TimedBackend, timedStore } from "./store-time.ts";
import { fingerprint, meta, REF, type StoreKind, storeKinds, TestStore } from "./support.ts";

describe.each(storeKinds)("packing anew on %s", (kind: StoreKind) => {
  let test: TestStore;
  let time: StoreTime;
  let store: SessionStore;
  let backend: TimedBackend;

  beforeEach(async () => {
    test = await TestStore.open(kind);
    time = new StoreTime();
    ({ store, backend } = timedStore(test, time));
  });

  afterEach(async () => {
    await store.close();
    await test[Symbol.asyncDispose]();
  });

  function countRequests(): { count: number } {
    const counted = { count: 0 };
    backend.onRequest = ({ phase }) => {
      if (phase === "before") counted.count++;
    };
    return counted;
  }

  /** Turns that each write one file; the last generation. */
  async function turns(from: number, to: number, bytes = 100): Promise<Commit> {
    let base = await store.readNewest(REF);
    for (let turn = from; turn < to; turn++) {
      const content = randomBytes(bytes);
      base = (
        await store.commitFiles(REF, base, { set: [{ path: `d${turn % 7}/f${turn}`, content }] }, meta())
      ).commit;
    }
    return base as Commit;
  }

  it("restores a thousand small turns with a hundred requests, and lets their records be collected", {
    timeout: 240_000,
  }, async () => {
    const here = test.directory();
    using first = await store.hydrate(REF, undefined, here);
    for (let directory = 0; directory < 7; directory++) mkdirSync(join(here, `d${directory}`));
    for (let turn = 0; turn < 1000; turn++) {
      writeFileSync(join(here, `d${turn % 7}/f${turn}`), randomBytes(50));
      await first.commit(await first.mirror(), meta());
    }
    const requests = countRequests();
    const directory = test.directory();
    using copy = await store.hydrate(REF, await store.readNewest(REF), directory);
    expect(requests.count).toBeLessThanOrEqual(100);
    expect(copy.table.size).toBe(1007);
    const tree = fingerprint(here);
    expect(fingerprint(directory)).toEqual(tree);
    for (let run = 0; run < 3; run++) {
      time.skip(2 * DAY_MS);
      await store.collect(REF, { retention: { generations: 50, days: 1 } });
    }
    // Those that are kept, and those of the last turns before them that were not packed anew yet.
    expect((await keysOf(test, "acme/sessions/s1/log/")).length).toBeLessThanOrEqual(150);
    expect((await keysOf(test, "acme/sessions/s1/pack/")).length).toBeLessThanOrEqual(10);
    expect((await keysOf(test, "acme/sessions/s1/table/")).length).toBeLessThanOrEqual(20);
    expect(await restoredTree(test, store, REF, 1000)).toEqual(tree);
    await restoredTree(test, store, REF, 951);
  });

  it("is known to the working copy that caused it, and to one that follows", {
    timeout: 240_000,
  }, async () => {
    const here = test.directory();
    const there = test.directory();
    using copy = await store.hydrate(REF, undefined, here);
    using follower = await store.hydrate(REF, undefined, there);
    let repacked = 0;
    for (let turn = 0; turn < 200; turn++) {
      writeFileSync(join(here, `f${turn}`), randomBytes(60));
      // Content that is there already, and whose place changes.
      if (turn > 0) writeFileSync(join(here, `copy${turn}`), readFileSync(join(here, `f${turn - 1}`)));
      if (turn > 10) chmodSync(join(here, `f${turn - 10}`), 0o600);
      const { commit } = await copy.commit(await copy.mirror(), meta());
      if (commit.repacked === true) repacked++;
      await follower.restore(commit);
      for (const own of commit.repacked === true || turn % 20 === 0 ? [copy, follower] : []) {
        const table = await store.readTable(REF, commit);
        for (const entry of table.entries()) expect(own.table.get(entry.path)).toEqual(entry);
      }
    }
    expect(repacked).toBeGreaterThanOrEqual(2);
    expect(repacked).toBeLessThanOrEqual(5);
    expect(fingerprint(there)).toEqual(fingerprint(here));
    const newest = (await store.readNewest(REF)) as Commit;
    for (let run = 0; run < 3; run++) {
      time.skip(2 * DAY_MS);
      await store.collect(REF, { retention: { generations: 1, days: 0 } });
    }
    expect(await restoredTree(test, store, REF, newest.generation)).toEqual(fingerprint(here));
    // What the working copies know can still be built on.
    writeFileSync(join(here, "f1"), readFileSync(join(here, "f150")));
    await copy.commit(await copy.mirror(), meta());
    expect(await restoredTree(test, store, REF, newest.generation + 1)).toEqual(fingerprint(here));
  });

  it("refuses to make damage last", async () => {
    await turns(0, 66, 40_000);
    const [damaged] = await keysOf(test, "acme/sessions/s1/pack/");
    const pack = await test.backend.get(damaged as string);
    await test.backend.delete([damaged as string]);
    pack[1000] = (pack[1000] ?? 0) ^ 1;
    await test.backend.putIfAbsent(damaged as string, pack);
    await expect(turns(66, 90)).rejects.toMatchObject({ code: "STORE_CORRUPT", key: damaged });
  });

  it("takes what a fork needs out of the session that it comes from", async () => {
    const commit = await turns(0, 60);
    const fork = { tenant: "acme", sessionId: "fork" };
    await store.fork(REF, commit, fork, meta({ kind: "fork" }));
    let base = await store.readNewest(fork);
    for (let turn = 0; turn < 60; turn++) {
      const content = randomBytes(60);
      base = (await store.commitFiles(fork, base, { set: [{ path: `own${turn}`, content }] }, meta())).commit;
    }
    expect(base?.origins).toBeUndefined();
    const tree = await restoredTree(test, store, fork, 61);
    await store.commitFiles(
      REF,
      commit,
      { set: [], remove: [...Array(7).keys()].map((n) => `d${n}`) },
      meta(),
    );
    await turns(100, 120);
    for (let run = 0; run < 5; run++) {
      time.skip(2 * DAY_MS);
      for (const ref of [fork, REF]) await store.collect(ref, { retention: { generations: 1, days: 0 } });
    }
    expect(await keysOf(test, "acme/sessions/s1/pins/")).toEqual([]);
    expect((await keysOf(test, "acme/sessions/s1/log/")).length).toBeLessThan(40);
    expect(await restoredTree(test, store, fork, 61)).toEqual(tree);
  });
});
