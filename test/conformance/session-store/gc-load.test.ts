import { randomBytes, randomInt } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Commit, SessionStore } from "@longshore/session-store";
import { expect, it } from "vitest";
import { HOUR_MS, restoredTree, StoreTime, timedStore } from "./store-time.ts";
import { fingerprint, meta, storeKinds, TestStore } from "./support.ts";

/** What each operation takes of the store's time: no activation lives longer than twenty of them. */
const OPERATION_MS = HOUR_MS / 20;
/** Time stands still while an operation lasts for so long: none takes longer than an activation lives, however slow the machine. */
const LONGEST_OPERATION_MS = HOUR_MS / 2;
const RETENTION = { generations: 4, days: 0 };
const FORKS_MAX = 8;

/** The load goes on until so much was done beside each other. */
const OPERATIONS_MIN = 120;
const DELETED_MIN = 50;

type Tree = Record<string, string>;

/** What was committed, as whoever committed it saw it. */
class History {
  readonly sessions = new Map<string, Map<number, { commit: Commit; tree: Tree }>>();

  add(sessionId: string, commit: Commit, tree: Tree): void {
    const generations = this.sessions.get(sessionId) ?? new Map<number, { commit: Commit; tree: Tree }>();
    this.sessions.set(sessionId, generations);
    generations.set(commit.generation, { commit, tree });
  }

  /** Any of the newest generations, a few of which are given up or about to be. */
  pick(sessionId: string): { commit: Commit; tree: Tree } | undefined {
    const all = [...(this.sessions.get(sessionId)?.values() ?? [])];
    return all[Math.max(0, all.length - 1 - randomInt(12))];
  }
}

/** Whether something was done, or refused as it may be under load. */
async function allowed<T>(work: Promise<T>, codes: readonly string[]): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    expect(codes).toContain((error as { code?: string }).code);
    return undefined;
  }
}

/** Somebody who takes turns in a session, rolls it back and forks it, beside others. */
async function write(
  test: TestStore,
  store: SessionStore,
  history: History,
  sessionId: string,
  stop: AbortSignal,
  onFork: (sessionId: string) => void,
  onOperation: (writer: object) => void,
): Promise<void> {
  const ref = { tenant: "acme", sessionId };
  const copy = await store.hydrate(ref, await store.readNewest(ref), test.directory());
  while (!stop.aborted) {
    onOperation(copy);
    const what = randomInt(10);
    const known = history.pick(sessionId);
    if (what < 7 || known === undefined || copy.base === undefined) {
      for (let file = 0; file <= randomInt(3); file++) {
        const bytes = randomInt(2) === 0 ? 40_000 : 300;
        writeFileSync(join(copy.directory, `f${randomInt(12)}`), randomBytes(bytes));
      }
      const tree = fingerprint(copy.directory);
      const result = await allowed(copy.commit(await copy.mirror(), meta()), ["STALE_MIRROR"]);
      if (result?.outcome === "committed") history.add(sessionId, result.commit, tree);
      else if (result !== undefined) await copy.restore((await store.readNewest(ref)) as Commit);
    } else if (what < 9) {
      const rolled = store.rollback(ref, copy.base, known.commit, meta({ kind: "rollback" }));
      const result = await allowed(rolled, ["GENERATION_NOT_FOUND", "OBJECT_NOT_FOUND"]);
      if (result?.outcome === "committed") history.add(sessionId, result.commit, known.tree);
      if (result !== undefined) await copy.restore((await store.readNewest(ref)) as Commit);
    } else if (history.sessions.size < FORKS_MAX) {
      const target = `fork-${randomBytes(4).toString("hex")}`;
      const forked = store.fork(
        ref,
        known.commit,
        { tenant: "acme", sessionId: target },
        meta({ kind: "fork" }),
      );
      const result = await allowed(forked, ["GENERATION_NOT_FOUND", "OBJECT_NOT_FOUND"]);
      if (result?.outcome === "committed") {
        history.add(target, result.commit, known.tree);
        onFork(target);
      }
    }
  }
  copy.close();
}

async function collectAll(store: SessionStore): Promise<number> {
  let deleted = 0;
  for (const sessionId of await store.listSessions("acme")) {
    const report = await store.collect({ tenant: "acme", sessionId }, { retention: RETENTION });
    deleted += report.deleted.objects;
  }
  return deleted;
}

it.each(storeKinds)(
  "never removes what a kept generation needs, under load on %s",
  { timeout: 240_000 },
  async (kind) => {
    await using test = await TestStore.open(kind);
    const time = new StoreTime();
    const options = { longestActivationMs: HOUR_MS };
    await using writers = timedStore(test, time, options);
    const history = new History();
    const stop = new AbortController();
    const running: Promise<void>[] = [];
    let operations = 0;
    let deleted = 0;
    const begun = new Map<object, number>();
    const onOperation = (writer: object): void => {
      begun.set(writer, time.now());
      if (time.now() - Math.min(...begun.values()) < LONGEST_OPERATION_MS) time.skip(OPERATION_MS);
      if (++operations >= OPERATIONS_MIN && deleted >= DELETED_MIN) stop.abort();
    };
    const begin = (sessionId: string): void => {
      running.push(write(test, writers.store, history, sessionId, stop.signal, begin, onOperation));
    };
    // The second has two writers, of which one is overtaken now and then.
    for (const sessionId of ["s1", "s2", "s2"]) begin(sessionId);
    const collect = async (): Promise<void> => {
      await using collector = timedStore(test, time, options);
      while (!stop.signal.aborted) deleted += await collectAll(collector.store);
    };
    const collecting = Promise.all([collect(), collect()]);
    collecting.catch(() => stop.abort());
    try {
      for (let done = 0; done < running.length; done++) await running[done];
    } finally {
      stop.abort();
      await Promise.allSettled([...running, collecting]);
    }
    await collecting;
    for (let run = 0; run < 3; run++) {
      time.skip(2 * HOUR_MS);
      await collectAll(writers.store);
    }
    let compared = 0;
    for (const [sessionId, generations] of history.sessions) {
      const ref = { tenant: "acme", sessionId };
      const newest = (await writers.store.readNewest(ref))?.generation ?? 0;
      for (const [generation, { tree }] of generations) {
        if (generation <= newest - RETENTION.generations) continue;
        expect(await restoredTree(test, writers.store, ref, generation)).toEqual(tree);
        compared++;
      }
    }
    expect(compared).toBeGreaterThan(10);
  },
);
