import { randomBytes } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  AmbiguousPutError,
  type Commit,
  type SessionStore,
  type WorkingCopy,
} from "@longshore/session-store";
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

const KEEP_ONE = { generations: 1, days: 0 };
const PACKED = 40_000;

describe.each(storeKinds)("a commit that comes late, on %s", { timeout: 60_000 }, (kind: StoreKind) => {
  let test: TestStore;
  let time: StoreTime;
  /** The one that is late. */
  let zombie: { store: SessionStore; backend: TimedBackend; copy: WorkingCopy; directory: string };
  /** Everybody else. */
  let store: SessionStore;

  beforeEach(async () => {
    test = await TestStore.open(kind);
    time = new StoreTime();
    const late = timedStore(test, time);
    const directory = test.directory();
    zombie = { ...late, directory, copy: await late.store.hydrate(REF, undefined, directory) };
    ({ store } = timedStore(test, time));
  });

  afterEach(async () => {
    zombie.copy.close();
    await zombie.store.close();
    await store.close();
    await test[Symbol.asyncDispose]();
  });

  function write(directory: string): void {
    writeFileSync(join(directory, "packed"), randomBytes(PACKED));
    writeFileSync(join(directory, "inline"), randomBytes(100));
  }

  async function zombieCommits(): Promise<Commit> {
    write(zombie.directory);
    const result = await zombie.copy.commit(await zombie.copy.mirror(), meta());
    expect(result.outcome).toBe("committed");
    return result.commit;
  }

  /** Days in which somebody else takes turns and collectors leave no trace of what was before. */
  async function daysPass(turns: number): Promise<void> {
    const directory = test.directory();
    using copy = await store.hydrate(REF, await store.readNewest(REF), directory);
    for (let turn = 0; turn < turns; turn++) {
      write(directory);
      await copy.commit(await copy.mirror(), meta({ epoch: 2 }));
    }
    for (let run = 0; run < 3; run++) {
      time.skip(DAY_MS + HOUR_MS);
      await store.collect(REF, { retention: KEEP_ONE });
    }
  }

  /** Lets something happen between a request of the zombie and the moment when the store takes it. */
  function beforeRequest(operation: string, part: string, happens: () => Promise<void>): void {
    let done = false;
    zombie.backend.onRequest = async (request) => {
      if (
        done ||
        request.phase !== "before" ||
        request.operation !== operation ||
        !request.key.includes(part)
      )
        return;
      done = true;
      await happens();
    };
  }

  async function expectNewest(generation: number): Promise<void> {
    const newest = await store.readNewest(REF);
    expect(newest?.generation).toBe(generation);
    await restoredTree(test, store, REF, generation);
  }

  it("costs no request more as long as it is in time", async () => {
    await zombieCommits();
    const seen: string[] = [];
    zombie.backend.onRequest = ({ operation, key, phase }) => {
      if (phase === "before") seen.push(`${operation} ${key.includes("/log/") ? "record" : "pack"}`);
    };
    time.skip(11 * HOUR_MS);
    await zombieCommits();
    expect(seen).toEqual(["put pack", "put record"]);
    time.skip(13 * HOUR_MS);
    seen.length = 0;
    await zombieCommits();
    expect(seen).toEqual(["put pack", "list record", "put record"]);
  });

  it("is told of the newest when its place was collected, before it puts anything there", async () => {
    await zombieCommits();
    await daysPass(40);
    expect(await keysOf(test, "acme/sessions/s1/log/999999999999997")).toEqual([]);
    write(zombie.directory);
    const late = await zombie.copy.commit(await zombie.copy.mirror(), meta());
    expect(late).toMatchObject({ outcome: "overtaken", commit: { generation: 41, epoch: 2 } });
    expect(await keysOf(test, "acme/sessions/s1/log/999999999999997")).toEqual([]);
    await expectNewest(41);
  });

  it("is told so as well when it was stopped between looking and putting, and what it put is garbage", async () => {
    await zombieCommits();
    write(zombie.directory);
    const mirror = await zombie.copy.mirror();
    beforeRequest("put", "/log/", () => daysPass(40));
    const late = await zombie.copy.commit(mirror, meta());
    expect(late).toMatchObject({ outcome: "overtaken", commit: { generation: 41, epoch: 2 } });
    expect(zombie.copy.base?.generation).toBe(1);
    // It stands below a gap, where it is no generation that anything is built on, and goes with the next collections.
    expect(await keysOf(test, "acme/sessions/s1/log/999999999999997")).toHaveLength(1);
    for (let run = 0; run < 3; run++) {
      time.skip(DAY_MS + HOUR_MS);
      await store.collect(REF, { retention: { generations: 100, days: 100 } });
    }
    expect(await keysOf(test, "acme/sessions/s1/log/999999999999997")).toEqual([]);
    await expectNewest(41);
  });

  it("is told so when it builds on no generation at all", async () => {
    write(zombie.directory);
    const mirror = await zombie.copy.mirror();
    await daysPass(40);
    expect(await zombie.copy.commit(mirror, meta())).toMatchObject({
      outcome: "overtaken",
      commit: { generation: 40 },
    });
    await expectNewest(40);
  });

  it("counts when nobody else has committed meanwhile, and all is still there", async () => {
    await zombieCommits();
    write(zombie.directory);
    const mirror = await zombie.copy.mirror();
    beforeRequest("put", "/log/", async () => {
      time.skip(20 * HOUR_MS);
      await store.collect(REF, { retention: KEEP_ONE });
    });
    expect((await zombie.copy.commit(mirror, meta())).outcome).toBe("committed");
    expect(await restoredTree(test, store, REF, 2)).toEqual(fingerprint(zombie.directory));
  });

  it.each([
    ["deleted", 3],
    ["marked", 2],
  ])("refuses to commit what it stored so long ago that it is %s, and commits it anew", async (_, runs) => {
    await zombieCommits();
    write(zombie.directory);
    const mirror = await zombie.copy.mirror();
    for (let run = 1; run < runs; run++) {
      time.skip(DAY_MS + HOUR_MS);
      await store.collect(REF, { retention: KEEP_ONE });
    }
    await expect(zombie.copy.commit(mirror, meta())).rejects.toMatchObject({ code: "STALE_MIRROR" });
    await expectNewest(1);
    expect((await zombie.copy.commit(await zombie.copy.mirror(), meta())).outcome).toBe("committed");
    expect(await restoredTree(test, store, REF, 2)).toEqual(fingerprint(zombie.directory));
  });

  it.each([
    ["deleted", 3],
    ["marked", 2],
  ])("takes its record back when it was stopped while what it stored was %s", async (_, runs) => {
    await zombieCommits();
    write(zombie.directory);
    const mirror = await zombie.copy.mirror();
    beforeRequest("put", "/log/", async () => {
      for (let run = 1; run < runs; run++) {
        time.skip(DAY_MS + HOUR_MS);
        await store.collect(REF, { retention: KEEP_ONE });
      }
    });
    await expect(zombie.copy.commit(mirror, meta())).rejects.toMatchObject({ code: "STALE_MIRROR" });
    await expectNewest(1);
    expect((await zombie.copy.commit(await zombie.copy.mirror(), meta())).outcome).toBe("committed");
    expect(await restoredTree(test, store, REF, 2)).toEqual(fingerprint(zombie.directory));
  });

  it("takes a rollback back when it was stopped while its generation was given up", async () => {
    for (let turn = 0; turn < 3; turn++) await zombieCommits();
    // The files of the first generation only; the newest has nothing of them.
    rmSync(join(zombie.directory, "packed"));
    await zombie.copy.commit(await zombie.copy.mirror(), meta());
    const [newest, first] = [zombie.copy.base as Commit, await zombie.store.readCommit(REF, 1)];
    beforeRequest("put", "/log/", async () => {
      for (let run = 0; run < 3; run++) {
        time.skip(DAY_MS + HOUR_MS);
        await store.collect(REF, { retention: KEEP_ONE });
      }
    });
    await expect(zombie.store.rollback(REF, newest, first, meta())).rejects.toMatchObject({
      code: "GENERATION_NOT_FOUND",
    });
    await expectNewest(4);
  });

  it("is told so as well when the answer to its put was lost, and what it put was collected before it asked", async () => {
    await zombieCommits();
    write(zombie.directory);
    const mirror = await zombie.copy.mirror();
    let lost = false;
    zombie.backend.onRequest = async ({ operation, key, phase }) => {
      if (lost || phase !== "after" || operation !== "put" || !key.includes("/log/")) return;
      lost = true;
      await daysPass(40);
      throw new AmbiguousPutError(key, new Error("reset"));
    };
    const late = await zombie.copy.commit(mirror, meta());
    expect(late).toMatchObject({ outcome: "overtaken", commit: { generation: 42 } });
    await expectNewest(42);
  });

  it("counts when the answer to its put was lost, and it was in time", async () => {
    await zombieCommits();
    let lost = false;
    zombie.backend.onRequest = ({ operation, key, phase }) => {
      if (lost || phase !== "after" || operation !== "put" || !key.includes("/log/")) return;
      lost = true;
      throw new AmbiguousPutError(key, new Error("reset"));
    };
    expect((await zombieCommits()).observedMs).toBeGreaterThan(0);
    await expectNewest(2);
  });
});
