import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type CommitMeta, openBackend, SessionStore } from "@longshore/session-store";
import {
  type AgentDefinition,
  createLogger,
  KnownSecrets,
  systemClock,
  VolumeLeases,
  volumeKeys,
} from "@longshore/shared";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { nextNote } from "../../../apps/worker/src/commit-notes.ts";
import { LeaseKeeper } from "../../../apps/worker/src/lease-keeper.ts";
import { Volumes } from "../../../apps/worker/src/volumes.ts";
import { openRedisFixture, type RedisFixture, SessionFixture } from "../shared/redis-fixture.ts";

const TTL_MS = 600;
const tenant = "default";
const use = { runtime: "bwrap", quota: { bytes: 2 ** 30, files: 1_000 } } as const;
const user = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const signal = new AbortController().signal;
const definition = {
  volumes: [{ name: "v", target: "/session/workspace/v", mode: "rw", whenTaken: "wait" }],
  limits: { disk: 1024 ** 3, files: 1_000 },
} as unknown as AgentDefinition;

let redis: RedisFixture;
let root: string;
let store: SessionStore;
let leases: VolumeLeases;
let woken: string[];
const keepers: LeaseKeeper[] = [];

beforeAll(async () => {
  redis = await openRedisFixture();
});
afterAll(() => redis[Symbol.asyncDispose]());
beforeEach(async () => {
  await redis.client.flushall();
  root = await mkdtemp(join(tmpdir(), "volumes-"));
  store = new SessionStore({ backend: openBackend(`file://${join(root, "store")}`) });
  leases = new VolumeLeases(redis.client);
  woken = [];
});
afterEach(async () => {
  for (const keeper of keepers.splice(0)) keeper.stop();
  await store.close();
  await rm(root, { recursive: true });
});

/** A session under its lease, with what its activation does about its volume. */
class Writer {
  readonly fixture = new SessionFixture(redis.client);
  readonly nonce = randomUUID();
  keeper!: LeaseKeeper;
  volumes!: Volumes;
  directory!: string;

  get ref() {
    return { tenant, sessionId: this.fixture.sessionId };
  }

  async begin(): Promise<this> {
    const { state, sessionId } = this.fixture;
    const lease = await this.fixture.lease(this.nonce);
    this.keeper = new LeaseKeeper({
      state,
      sessionId,
      lease,
      ttlMs: 60_000,
      takenAt: performance.now(),
      clock: systemClock,
    });
    keepers.push(this.keeper);
    return this;
  }

  async take(
    onWanted: () => void = () => undefined,
    how: object = {},
    others: AgentDefinition["volumes"] = [],
  ): Promise<number | undefined> {
    const slots = {
      create: async (name: string) => {
        this.directory = join(root, name);
        await mkdir(this.directory);
        return this.directory;
      },
      remove: (name: string) => rm(join(root, name), { recursive: true, force: true }),
    };
    const wakes = { hurry: async ({ sessionId }: { sessionId: string }) => void woken.push(sessionId) };
    const { state } = this.fixture;
    const log = createLogger({ name: "test", level: "silent", secrets: new KnownSecrets() });
    const taken = await Volumes.take(
      { store, state, leases, wakes, slots, clock: systemClock, worker: "w", leaseMs: TTL_MS },
      { ...this.ref, agent: "helper", nonce: this.nonce, keeper: this.keeper, log },
      { ...definition, volumes: [...definition.volumes.map((volume) => ({ ...volume, ...how })), ...others] },
      undefined,
      onWanted,
    );
    if (typeof taken === "number") return taken;
    this.volumes = taken;
    await taken.hydrate(this.nonce.slice(0, 8), user, use, signal);
    return undefined;
  }

  write(text: string): Promise<void> {
    return writeFile(join(this.directory, "f"), text);
  }

  read(): Promise<string> {
    return readFile(join(this.directory, "f"), "utf8").catch(() => "nothing");
  }

  /** The session's own commit, as of a turn. */
  async commit(volumes: Record<string, number> | undefined) {
    const newest = await store.readNewest(this.ref);
    const note = nextNote(undefined, { agent: "helper", undelivered: [], generation: 1, volumes });
    const meta: CommitMeta = { ...this.keeper.lease, worker: "w", kind: "turn", note };
    return await store.commitUnchanged(this.ref, newest, meta);
  }

  /** Killed: nothing is renewed any more. */
  async die(): Promise<void> {
    this.keeper.stop();
    await this.volumes.close({ decide: false });
    await this.volumes.remove();
    await redis.client.hset(volumeKeys(tenant, "v").lease, "until", 0, "nonce", this.nonce);
  }
}

const emptyNote = { agent: "helper", ends: [], replies: [], undelivered: [], recent: [] };

const begin = () => new Writer().begin();

/** A writer that has prepared "new" over "old", and died. */
async function prepared(): Promise<{
  readonly dead: Writer;
  readonly generations: Record<string, number> | undefined;
}> {
  const dead = await begin();
  await dead.take();
  await dead.write("old");
  await dead.commit(await dead.volumes.prepare(definition));
  await dead.volumes.settle();
  await dead.write("new");
  const generations = await dead.volumes.prepare(definition);
  return { dead, generations };
}

describe("a volume", () => {
  it("is one session's at a time; who waits is told of, and woken", async () => {
    const [first, second] = [await begin(), await begin()];
    const wanted = Promise.withResolvers<void>();
    expect(await first.take(wanted.resolve)).toBeUndefined();
    expect(await second.take()).toBeGreaterThan(0);
    await wanted.promise;
    expect(first.volumes.isWanted).toBe(true);
    await first.volumes.close({ decide: true });
    expect(woken).toEqual([second.ref.sessionId]);
    expect(await second.take()).toBeUndefined();
    await second.volumes.close({ decide: true });
  });

  it("is not seen as it is before the session's commit, and who only reads makes nobody give way", async () => {
    const { dead, generations } = await prepared();
    expect(generations).toEqual({ v: 3 });
    for (const how of [{ mode: "ro" }, { whenTaken: "ro" }]) {
      const reader = await begin();
      expect(await reader.take(undefined, how)).toBeUndefined();
      expect(await reader.read()).toBe("old");
      await reader.volumes.close({ decide: true });
    }
    expect(await leases.renew({ tenant, volume: "v" }, dead.nonce, TTL_MS)).toBe(0);
    await dead.volumes.close({ decide: true });
    expect(woken).toEqual([]);
  });

  it("is not prepared for a session that is another's by now", async () => {
    const writer = await begin();
    await writer.take();
    await writer.write("late");
    writer.keeper.lose("test");
    await expect(writer.volumes.prepare(definition)).rejects.toMatchObject({ code: "FENCED" });
    expect(await store.readNewest({ tenant, volume: "v" })).toBeUndefined();
    await writer.volumes.close({ decide: false });
  });

  it("that is only read stays one of those that the session's commits name", async () => {
    const writer = await begin();
    await writer.take(() => undefined, { mode: "ro" }, [
      { name: "w", target: "/session/workspace/w", mode: "rw", whenTaken: "wait" },
    ]);
    await writer.write("new");
    expect(await writer.volumes.prepare(definition, { v: 3 })).toEqual({ v: 3, w: 1 });
  });

  it("is undone where the session did not commit, and then can't any more", async () => {
    const { dead, generations } = await prepared();
    await dead.die();
    const next = await begin();
    await next.take();
    expect(await next.read()).toBe("old");
    // Stopped in the middle, it goes on now.
    const before = await store.readNewest(dead.ref);
    expect(before).toMatchObject({ kind: "takeover", nonce: next.nonce });
    const stale = await store.readCommit(dead.ref, 1);
    const note = nextNote(undefined, {
      agent: "helper",
      undelivered: [],
      generation: 2,
      volumes: generations,
    });
    const meta: CommitMeta = { ...dead.keeper.lease, worker: "w", kind: "turn", note };
    expect(await store.commitUnchanged(dead.ref, stale, meta)).toMatchObject({ outcome: "overtaken" });
    await next.volumes.close({ decide: true });
  });

  it("is undone where the session never committed anything", async () => {
    const dead = await begin();
    await dead.take();
    await dead.write("new");
    const generations = await dead.volumes.prepare(definition);
    await dead.die();
    const next = await begin();
    await next.take();
    expect(await next.read()).toBe("nothing");
    expect(await dead.commit(generations).then(({ commit }) => commit.generation)).toBe(2);
    await next.volumes.close({ decide: true });
  });

  it("stands where the session committed, also after further generations of that one", async () => {
    const { dead, generations } = await prepared();
    await dead.commit(generations);
    await dead.die();
    const note = nextNote(
      { ...emptyNote, volumes: { v: 3 } },
      { agent: "helper", undelivered: [], generation: 3 },
    );
    const meta: CommitMeta = { epoch: 9, nonce: "heir", worker: "w", kind: "takeover", note };
    await store.commitUnchanged(dead.ref, await store.readNewest(dead.ref), meta);
    const next = await begin();
    await next.take();
    expect(await next.read()).toBe("new");
    expect(await store.readNewest({ tenant, volume: "v" })).toMatchObject({
      kind: "takeover",
      partial: false,
    });
    await next.volumes.close({ decide: true });
  });

  it("is decided by the session's own next activation, too", async () => {
    const { dead } = await prepared();
    await dead.die();
    await dead.take();
    expect(await dead.read()).toBe("old");
    await dead.volumes.close({ decide: true });
  });

  it("is undone at the end of an activation whose commit failed", async () => {
    const { dead } = await prepared();
    await dead.volumes.close({ decide: true });
    const next = await begin();
    expect(await next.take()).toBeUndefined();
    expect(await next.read()).toBe("old");
    await next.volumes.close({ decide: true });
  });

  it("that Redis lost is the session's no more: it stops", async () => {
    const writer = await begin();
    await writer.take();
    const lost = new Promise((resolve) => writer.keeper.signal.addEventListener("abort", resolve));
    await redis.client.del(volumeKeys(tenant, "v").lease);
    await lost;
    await writer.write("late");
    await expect(writer.volumes.prepare(definition)).rejects.toMatchObject({ code: "FENCED" });
    await writer.volumes.close({ decide: false });
  });

  it("goes on above its newest generation where Redis came back with older data", async () => {
    for (const text of ["1", "2", "3"]) {
      const writer = await begin();
      await writer.take();
      await writer.write(text);
      await writer.commit(await writer.volumes.prepare(definition));
      await writer.volumes.settle();
      await writer.volumes.close({ decide: true });
    }
    const { epoch = 0 } = (await store.readNewest({ tenant, volume: "v" })) ?? {};
    await redis.client.flushall();
    const writer = await begin();
    await writer.take();
    expect(await writer.read()).toBe("3");
    await writer.write("4");
    await writer.commit(await writer.volumes.prepare(definition));
    await writer.volumes.settle();
    expect((await store.readNewest({ tenant, volume: "v" }))?.epoch).toBeGreaterThan(epoch);
    await writer.volumes.close({ decide: true });
  });
});
