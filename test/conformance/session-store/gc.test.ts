import { randomBytes } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
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
import { fingerprint, meta, REF, type StoreKind, storeKinds, TestStore } from "./support.ts";

const code = (expected: string) => expect.objectContaining({ code: expected });
const KEEP_TWO = { generations: 2, days: 0 };
const PACKED = 40_000;

describe.each(storeKinds)("garbage collection on %s", { timeout: 60_000 }, (kind: StoreKind) => {
  let test: TestStore;
  let time: StoreTime;
  let store: SessionStore;
  let backend: TimedBackend;
  let here: string;
  let copy: WorkingCopy;
  const trees = new Map<number, Record<string, string>>();

  beforeEach(async () => {
    test = await TestStore.open(kind);
    time = new StoreTime();
    ({ store, backend } = timedStore(test, time));
    here = test.directory();
    copy = await store.hydrate(REF, undefined, here);
    trees.clear();
  });

  afterEach(async () => {
    copy.close();
    await store.close();
    await test[Symbol.asyncDispose]();
  });

  async function commit(): Promise<Commit> {
    const result = await copy.commit(await copy.mirror(), meta());
    expect(result.outcome).toBe("committed");
    trees.set(result.commit.generation, fingerprint(here));
    return result.commit;
  }

  /** A turn that replaces a packed file and an inline one. What the first one leaves besides, only tables still name later. */
  async function turn(): Promise<Commit> {
    if (copy.base === undefined) {
      writeFileSync(join(here, "lasting-packed"), randomBytes(PACKED));
      writeFileSync(join(here, "lasting-inline"), randomBytes(100));
    }
    writeFileSync(join(here, "packed"), randomBytes(PACKED));
    writeFileSync(join(here, "inline"), randomBytes(100));
    return await commit();
  }

  async function turns(count: number): Promise<void> {
    for (let done = 0; done < count; done++) await turn();
  }

  const collect = (options = {}) => store.collect(REF, { retention: KEEP_TWO, ...options });
  const packs = () => keysOf(test, "acme/sessions/s1/pack/");
  const records = () => keysOf(test, "acme/sessions/s1/log/");

  /** Marks, and deletes what is marked. */
  async function collectTwice(retention = KEEP_TWO): Promise<void> {
    await store.collect(REF, { retention });
    time.skip(DAY_MS + HOUR_MS);
    await store.collect(REF, { retention });
  }

  async function expectKept(from: number): Promise<void> {
    for (const [generation, tree] of trees) {
      if (generation >= from) expect(await restoredTree(test, store, REF, generation)).toEqual(tree);
    }
  }

  it("keeps the newest generations, marks what only older ones need, and deletes it a day later", async () => {
    await turns(20);
    const { neededBytes, ...young } = await collect();
    expect(young).toEqual({
      generations: 20,
      marked: { objects: 0, bytes: 0 },
      deleted: { objects: 0, bytes: 0 },
    });
    expect(neededBytes).toBeGreaterThan(20 * PACKED);
    time.skip(DAY_MS + HOUR_MS);
    const marked = await collect();
    // A collection's own notes are needed, too.
    expect(marked.neededBytes - (neededBytes - marked.marked.bytes)).toBeGreaterThanOrEqual(0);
    expect(marked.neededBytes - (neededBytes - marked.marked.bytes)).toBeLessThan(PACKED);
    expect(marked).toMatchObject({ generations: 2, deleted: { objects: 0 } });
    expect(marked.marked.bytes).toBeGreaterThan(15 * PACKED);
    expect(await packs()).toHaveLength(20);
    time.skip(DAY_MS - HOUR_MS);
    expect(await collect()).toMatchObject({ marked: marked.marked, deleted: { objects: 0 } });
    time.skip(2 * HOUR_MS);
    const deleted = await collect();
    expect(deleted).toMatchObject({ marked: { objects: 0 }, deleted: marked.marked });
    expect(deleted.neededBytes).toBeGreaterThanOrEqual(marked.neededBytes);
    expect(deleted.neededBytes).toBeLessThan(marked.neededBytes + PACKED);
    // Those of the two newest, and of the records that their chains are made of.
    expect((await packs()).length).toBeLessThanOrEqual(17);
    await expectKept(19);
    await expect(store.readCommit(REF, 1)).rejects.toEqual(code("GENERATION_NOT_FOUND"));
    expect(await collect()).toMatchObject({
      generations: 2,
      marked: { objects: 0 },
      deleted: { objects: 0 },
    });
  });

  it("keeps what is younger than the retention's days, however many generations that are", async () => {
    await turns(3);
    time.skip(5 * DAY_MS);
    await turns(4);
    time.skip(2 * DAY_MS);
    expect(await collect({ retention: { generations: 1, days: 3 } })).toMatchObject({ generations: 4 });
    expect(await collect({ retention: { generations: 1, days: 8 } })).toMatchObject({ generations: 4 });
    await collectTwice({ generations: 1, days: 5 });
    await expectKept(4);
  });

  it("keeps the newest generation that is no checkpoint", async () => {
    await turns(2);
    for (let checkpoint = 0; checkpoint < 3; checkpoint++) {
      writeFileSync(join(here, "packed"), randomBytes(PACKED));
      await copy.commit(await copy.mirror(), meta({ kind: "checkpoint", partial: true }));
    }
    time.skip(2 * DAY_MS);
    expect(await collect({ retention: { generations: 1, days: 0 } })).toMatchObject({ generations: 4 });
    await collectTwice({ generations: 1, days: 0 });
    await expectKept(2);
    const [newest, whole] = [await store.readNewest(REF), await store.readCommit(REF, 2)];
    await store.rollback(REF, newest as Commit, whole, meta({ kind: "rollback" }));
    expect(await restoredTree(test, store, REF, 6)).toEqual(trees.get(2));
  });

  it("does nothing in a dry run, and says what it would do", async () => {
    await turns(20);
    time.skip(2 * DAY_MS);
    const before = await keysOf(test, "acme/");
    const dry = await collect({ dryRun: true });
    expect(dry.marked.objects).toBeGreaterThan(0);
    expect(await keysOf(test, "acme/")).toEqual(before);
    expect(await collect()).toEqual(dry);
    time.skip(2 * DAY_MS);
    const marked = await keysOf(test, "acme/");
    expect(await collect({ dryRun: true })).toMatchObject({ deleted: dry.marked });
    expect(await keysOf(test, "acme/")).toEqual(marked);
  });

  it("refuses to roll back to what is given up, also when the retention is raised again", async () => {
    await turns(5);
    time.skip(2 * DAY_MS);
    const [newest, old] = [(await store.readNewest(REF)) as Commit, await store.readCommit(REF, 2)];
    await collect();
    await expect(store.rollback(REF, newest, old, meta())).rejects.toThrow(/expiring/);
    expect(await collect({ retention: { generations: 50, days: 300 } })).toMatchObject({ generations: 2 });
    await expect(store.rollback(REF, newest, old, meta())).rejects.toEqual(code("GENERATION_NOT_FOUND"));
    time.skip(2 * DAY_MS);
    await collect();
    await expect(store.rollback(REF, newest, old, meta())).rejects.toEqual(code("GENERATION_NOT_FOUND"));
    expect((await store.readNewest(REF))?.generation).toBe(5);
    await expectKept(4);
  });

  it("does not delete what a rollback takes up while it is being marked", async () => {
    await turns(20);
    time.skip(2 * DAY_MS);
    const newest = (await store.readNewest(REF)) as Commit;
    const old = await store.readCommit(REF, 2);
    // The rollback looks at the marks, then a collector writes them, then the rollback commits.
    let collected = false;
    backend.onRequest = async ({ operation, key, phase }) => {
      if (collected || operation !== "put" || !key.includes("/log/") || phase !== "before") return;
      collected = true;
      await collect();
    };
    const rolled = await store.rollback(REF, newest, old, meta({ kind: "rollback" }));
    expect(rolled.outcome).toBe("committed");
    expect(collected).toBe(true);
    time.skip(2 * DAY_MS);
    await collectTwice();
    await collectTwice();
    expect(await restoredTree(test, store, REF, 21)).toEqual(trees.get(2));
    // Nor does the mark stay: a turn later it can be gone back to.
    copy.close();
    here = test.directory();
    copy = await store.hydrate(REF, await store.readNewest(REF), here);
    await turn();
    const back = await store.rollback(REF, copy.base as Commit, rolled.commit, meta());
    expect(back.outcome).toBe("committed");
    await collectTwice();
    expect(await restoredTree(test, store, REF, 23)).toEqual(trees.get(2));
  });

  it("lets nobody go back to what it deletes, at no moment of a run", async () => {
    await turns(20);
    const [newest, old] = [(await store.readNewest(REF)) as Commit, await store.readCommit(REF, 2)];
    time.skip(2 * DAY_MS);
    await collect();
    time.skip(2 * DAY_MS);
    await using other = timedStore(test, time);
    let tries = 0;
    backend.onRequest = async () => {
      tries++;
      const rolled = other.store.rollback(REF, newest, old, meta({ kind: "rollback" }));
      await expect(rolled).rejects.toThrow(/expiring|does not exist|there is no generation/);
    };
    expect((await collect()).deleted.objects).toBeGreaterThan(10);
    expect(tries).toBeGreaterThan(10);
    expect((await store.readNewest(REF))?.generation).toBe(20);
  });

  it("looks anew when another collector has deleted what it was about to read", async () => {
    await turns(3);
    await using slow = timedStore(test, time);
    let overtaken = false;
    slow.backend.onRequest = async ({ operation, key, phase }) => {
      if (overtaken || operation !== "get" || !key.includes("/log/") || phase !== "before") return;
      overtaken = true;
      await turns(18);
      for (let run = 0; run < 2; run++) {
        time.skip(DAY_MS + HOUR_MS);
        await collect();
      }
      expect(await records()).not.toContain(key);
    };
    expect(await slow.store.collect(REF, { retention: KEEP_TWO })).toMatchObject({ generations: 2 });
    expect(overtaken).toBe(true);
    await expectKept(20);
  });

  it("collects what a failed turn has stored, and nothing that a later turn with the same content refers to", async () => {
    await turn();
    const content = randomBytes(PACKED);
    writeFileSync(join(here, "packed"), content);
    await copy.mirror();
    const [first, failed] = [await packs(), copy.base];
    expect(first).toHaveLength(2);
    await copy.restore();
    time.skip(2 * DAY_MS);
    await collect();
    time.skip(DAY_MS + HOUR_MS);
    // The same bytes again, just before what the failed turn has stored is deleted.
    writeFileSync(join(here, "packed"), content);
    let collected = false;
    backend.onRequest = async ({ operation, key, phase }) => {
      if (collected || operation !== "put" || !key.includes("/pack/") || phase !== "after") return;
      collected = true;
      expect(await collect()).toMatchObject({ deleted: { objects: 1 } });
    };
    expect((await commit()).parent).toBe(failed?.generation);
    await expectKept(2);
  });

  it("collects attachments a month after the longest activation, and finds those that were put again", async () => {
    const old = await store.putInbound(REF, Buffer.from("old"));
    const again = await store.putInbound(REF, Buffer.from("again"));
    time.skip(20 * DAY_MS);
    await store.putInbound(REF, Buffer.from("again"));
    await store.putInbound(REF, Buffer.from("again"));
    expect(await keysOf(test, "acme/sessions/s1/inbound/")).toHaveLength(3);
    time.skip(12 * DAY_MS);
    expect(await collect()).toMatchObject({ deleted: { objects: 2 } });
    expect(await keysOf(test, "acme/sessions/s1/inbound/")).toHaveLength(1);
    await expect(store.openInbound(REF, old.sha256)).rejects.toEqual(code("OBJECT_NOT_FOUND"));
    expect((await store.openInbound(REF, again.sha256)).sizeBytes).toBe(5);
  });

  it("collects the logs of turns that are older than the retention, and keeps the newest", async () => {
    const keep = (turnId: string) =>
      store.putTurnLog(REF, { turnId, startedMs: time.now() }, Buffer.from(turnId));
    for (const turnId of ["one", "two", "three"]) {
      await keep(turnId);
      time.skip(HOUR_MS);
    }
    const list = async () => (await store.listTurnLogs(REF, { limit: 10 })).logs.map(({ turnId }) => turnId);
    expect(await list()).toEqual(["three", "two", "one"]);
    const page = await store.listTurnLogs(REF, { limit: 2 });
    expect(page.more).toBe(true);
    const rest = await store.listTurnLogs(REF, { limit: 2, after: page.logs[1]?.id });
    expect(rest).toMatchObject({ logs: [{ turnId: "one" }], more: false });
    // Of more than two those that are younger than a day stay, too.
    const retention = { generations: 2, days: 1 };
    await store.collect(REF, { retention });
    expect(await list()).toEqual(["three", "two", "one"]);
    time.skip(DAY_MS);
    expect(await store.collect(REF, { retention })).toMatchObject({ deleted: { objects: 1 } });
    expect(await list()).toEqual(["three", "two"]);
    await expect(store.openTurnLog(REF, rest.logs[0]?.id ?? "")).rejects.toEqual(code("OBJECT_NOT_FOUND"));
    await expect(store.openTurnLog(REF, "../log/x")).rejects.toEqual(code("OBJECT_NOT_FOUND"));
  });

  it("deletes nothing when it can't read what it must know", async () => {
    await turns(4);
    time.skip(2 * DAY_MS);
    await collect();
    time.skip(2 * DAY_MS);
    const [marks] = await keysOf(test, "acme/sessions/s1/gc/");
    const before = await records();
    const content = await test.backend.get(marks as string);
    await test.backend.delete([marks as string]);
    content[20] = (content[20] ?? 0) ^ 1;
    await test.backend.putIfAbsent(marks as string, content);
    await expect(collect()).rejects.toEqual(code("STORE_CORRUPT"));
    await expect(
      store.rollback(REF, copy.base as Commit, await store.readCommit(REF, 3), meta()),
    ).rejects.toEqual(code("STORE_CORRUPT"));
    await test.backend.delete([marks as string, before[0] as string]);
    await test.backend.putIfAbsent(
      before[0] as string,
      Buffer.from("no record at all, and long enough to be looked at"),
    );
    await expect(collect()).rejects.toEqual(code("STORE_CORRUPT"));
    expect(await records()).toEqual(before);
    rmSync(join(here, "packed"));
  });

  it.each(["marks", "deletes"])(
    "can be killed at every request of a run that %s",
    {
      timeout: 120_000,
    },
    async (what) => {
      for (let killAt = 1, wasKilled = true; wasKilled; killAt++) {
        const ref = { tenant: "acme", sessionId: `k${killAt}` };
        await sessionWithGarbage(ref);
        const collected = () => store.collect(ref, { retention: KEEP_TWO });
        if (what === "deletes") {
          await collected();
          time.skip(2 * DAY_MS);
        }
        let requests = 0;
        backend.onRequest = () => {
          if (++requests === killAt) throw new Error("killed");
        };
        wasKilled = await collected().then(
          () => false,
          () => true,
        );
        backend.onRequest = () => undefined;
        for (const generation of [19, 20]) await restoredTree(test, store, ref, generation);
        for (let run = 0; run < 2; run++) {
          time.skip(2 * DAY_MS);
          await collected();
        }
        for (const generation of [19, 20]) await restoredTree(test, store, ref, generation);
        await expect(store.readCommit(ref, 1)).rejects.toEqual(code("GENERATION_NOT_FOUND"));
        expect(await keysOf(test, `acme/sessions/k${killAt}/gc/`)).toHaveLength(1);
        if (!wasKilled) expect(killAt).toBeGreaterThan(10);
      }
    },
  );

  async function sessionWithGarbage(ref: { tenant: string; sessionId: string }): Promise<void> {
    let base: Commit | undefined;
    for (let generation = 1; generation <= 20; generation++) {
      const content = randomBytes(100);
      const result = await store.commitFiles(ref, base, { set: [{ path: "f", content }] }, meta());
      base = result.commit;
    }
    time.skip(2 * DAY_MS);
  }

  it("marks a long garbage list once, and is idle when there is nothing to do", async () => {
    await turns(3);
    time.skip(2 * DAY_MS);
    await collectTwice();
    const before = await keysOf(test, "acme/");
    test.requests.length = 0;
    const seen: string[] = [];
    backend.onRequest = ({ operation, phase }) => {
      if (phase === "before") seen.push(operation);
    };
    await collect();
    expect(seen).not.toContain("put");
    expect(await keysOf(test, "acme/")).toEqual(before);
  });
});
