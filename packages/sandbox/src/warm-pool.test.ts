import { afterEach, describe, expect, test, vi } from "vitest";
import { type WarmKind, type WarmMember, WarmPool } from "./warm-pool.ts";

let made = 0;

class FakeMember implements WarmMember {
  readonly nonce = `n${made++}`;
  readonly kind: WarmKind;
  readonly prepared = Promise.withResolvers<void>();
  hasEnded = false;
  deaths = 0;
  failsToDie = false;
  #onEnd: (() => void) | undefined;

  constructor(kind: WarmKind) {
    this.kind = kind;
  }

  async prepare(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.prepared.reject(signal.reason));
    await this.prepared.promise;
  }

  onEnd(listener: () => void): void {
    this.#onEnd = listener;
  }

  end(): void {
    this.hasEnded = true;
    this.#onEnd?.();
  }

  async destroy(): Promise<void> {
    this.deaths++;
    if (this.failsToDie) throw new Error("it will not die");
  }
}

/** Waits until what `check` asserts is so. */
const eventually = (check: () => unknown) => vi.waitFor(check, { interval: 1, timeout: 60_000 });

const pools: WarmPool<WarmKind, FakeMember>[] = [];

afterEach(async () => {
  await Promise.all(pools.splice(0).map((pool) => pool.stop()));
});

/** A pool whose members are prepared at once, unless they are to be held. */
function start(kinds: WarmKind[], options: { readonly hold?: boolean; readonly memory?: () => number } = {}) {
  const members: FakeMember[] = [];
  const errors: unknown[] = [];
  let ready: ReadonlyMap<string, number> = new Map();
  const pool = new WarmPool<WarmKind, FakeMember>({
    kinds: () => kinds,
    create: (kind) => {
      const member = new FakeMember(kind);
      members.push(member);
      if (options.hold !== true) member.prepared.resolve();
      return member;
    },
    refillMs: 1,
    restMs: 0,
    lookMs: 2,
    availableMemory: options.memory ?? (() => 1),
    onChange: (counts) => {
      ready = counts;
    },
    onError: (error) => errors.push(error),
  });
  pools.push(pool);
  pool.start();
  const untilReady = (agent: string, count: number) =>
    eventually(() => expect(ready.get(agent) ?? 0).toBe(count));
  return { pool, members, errors, untilReady };
}

const kind = (name: string, size: number, hash = "1"): WarmKind => ({ name, hash, size });

describe("a warm pool", () => {
  test("fills, and fills again what was taken", async () => {
    const { pool, members, untilReady } = start([kind("a", 2)]);
    await untilReady("a", 2);
    const taken = pool.take("a", "1");
    expect(taken).toBe(members[0]);
    expect(pool.owns(taken?.nonce ?? "")).toBe(false);
    await untilReady("a", 2);
    expect(members).toHaveLength(3);
    expect(taken?.deaths).toBe(0);
  });

  test("gives each member to one taker, and none of another agent or definition", async () => {
    const { pool, untilReady } = start([kind("a", 1)]);
    await untilReady("a", 1);
    expect(pool.take("b", "1")).toBeUndefined();
    expect(pool.take("a", "2")).toBeUndefined();
    expect(pool.take("a", "1")).toBeDefined();
    expect(pool.take("a", "1")).toBeUndefined();
  });

  test("starts one at a time, by turns for its agents", async () => {
    const { members, untilReady } = start([kind("a", 2), kind("b", 1)], { hold: true });
    await eventually(() => expect(members).toHaveLength(1));
    members[0]?.prepared.resolve();
    await untilReady("a", 1);
    await eventually(() => expect(members).toHaveLength(2));
    expect(members[1]?.kind.name).toBe("b");
    members[1]?.prepared.resolve();
    await untilReady("b", 1);
    await eventually(() => expect(members).toHaveLength(3));
    expect(members[2]?.kind.name).toBe("a");
  });

  test("owns a member from before it is prepared until it is gone", async () => {
    const { pool, members } = start([kind("a", 1)], { hold: true });
    await eventually(() => expect(members).toHaveLength(1));
    const nonce = members[0]?.nonce ?? "";
    expect(pool.owns(nonce)).toBe(true);
    await pool.stop();
    expect(members[0]?.deaths).toBe(1);
    expect(pool.owns(nonce)).toBe(false);
  });

  test("replaces one that ended by itself, and gives away none that did", async () => {
    const { pool, members, untilReady } = start([kind("a", 1)]);
    await untilReady("a", 1);
    // Its news is not in yet.
    const [first] = members as [FakeMember];
    first.hasEnded = true;
    expect(pool.take("a", "1")).toBeUndefined();
    first.end();
    await eventually(() => expect(first.deaths).toBe(1));
    await untilReady("a", 1);
    expect(pool.take("a", "1")).toBe(members[1]);
  });

  test("rebuilds what has another definition, and drops an agent that is gone", async () => {
    const kinds = [kind("a", 2), kind("b", 1)];
    const { pool, members, untilReady } = start(kinds);
    await untilReady("a", 2);
    await untilReady("b", 1);
    kinds.splice(0, 2, kind("a", 1, "2"));
    await eventually(() => expect(members.slice(0, 3).every(({ deaths }) => deaths === 1)).toBe(true));
    await untilReady("a", 1);
    await untilReady("b", 0);
    expect(pool.take("a", "2")?.kind.hash).toBe("2");
  });

  test("shrinks to a smaller size", async () => {
    const kinds = [kind("a", 3)];
    const { members, untilReady } = start(kinds);
    await untilReady("a", 3);
    kinds[0] = kind("a", 1);
    await untilReady("a", 1);
    expect(members).toHaveLength(3);
  });

  test("gives up what it has where memory is short, and starts none before there is enough", async () => {
    let memory = 1;
    let looks = 0;
    const look = () => {
      looks++;
      return memory;
    };
    const { members, untilReady } = start([kind("a", 2)], { memory: look });
    await untilReady("a", 2);
    memory = 0.05;
    await untilReady("a", 0);
    memory = 0.15;
    const before = looks;
    await eventually(() => expect(looks).toBeGreaterThan(before + 1));
    expect(members).toHaveLength(2);
    memory = 0.5;
    await untilReady("a", 2);
    expect(members).toHaveLength(4);
  });

  test("cleans up after a start that failed, and leaves that agent alone for a while, and no other one", async () => {
    const { pool, members, errors, untilReady } = start([kind("a", 1), kind("b", 1)], { hold: true });
    await eventually(() => expect(members).toHaveLength(1));
    members[0]?.prepared.reject(new Error("no such image"));
    await eventually(() => expect(members).toHaveLength(2));
    expect(members[0]?.deaths).toBe(1);
    expect(errors).toEqual([new Error("no such image")]);
    expect(members[1]?.kind.name).toBe("b");
    members[1]?.prepared.resolve();
    await untilReady("b", 1);
    expect(pool.take("a", "1")).toBeUndefined();
  });

  test("keeps as its own what will not die, and tries again", async () => {
    const kinds = [kind("a", 1)];
    const { pool, members, errors, untilReady } = start(kinds);
    await untilReady("a", 1);
    const [stuck] = members as [FakeMember];
    stuck.failsToDie = true;
    kinds[0] = kind("a", 0);
    await eventually(() => expect(errors.length).toBeGreaterThan(1));
    expect(pool.owns(stuck.nonce)).toBe(true);
    stuck.failsToDie = false;
    await eventually(() => expect(pool.owns(stuck.nonce)).toBe(false));
  });

  test("is empty once it is stopped, and gives nothing any more", async () => {
    const { pool, members, untilReady } = start([kind("a", 2)]);
    await untilReady("a", 2);
    await pool.stop();
    expect(members.map(({ deaths }) => deaths)).toEqual([1, 1]);
    expect(pool.take("a", "1")).toBeUndefined();
  });
});
