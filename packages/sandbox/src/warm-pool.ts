import { freemem, totalmem } from "node:os";
import { setTimeout as delay } from "node:timers/promises";

/** Below this share of the host's memory being available, warm sandboxes are given up, one each look. */
const MEMORY_SHORT = 0.1;
/** Below this share none is started: between the two the pool stays as it is, and does not swing. */
const MEMORY_ENOUGH = 0.2;
const BACKOFF_FIRST_MS = 1_000;
const BACKOFF_LONGEST_MS = 60_000;

/** What is to be held ready: sandboxes of an agent, by its definition. */
export interface WarmKind {
  /** The agent's name. */
  readonly name: string;
  /** Of the definition: sandboxes of another one are of no use any more. */
  readonly hash: string;
  /** How many of them, from 0. */
  readonly size: number;
}

/** A sandbox with its slot and user, from before anything of it exists until all of it is gone. */
export interface WarmMember {
  /** Names its sandbox and its slot. */
  readonly nonce: string;
  /** True once it is of no use any more. */
  readonly hasEnded: boolean;
  /** Makes slot and sandbox, and lets the agent start up. What it made before a failure is for `destroy`. */
  prepare(signal: AbortSignal): Promise<void>;
  /** After `prepare`: calls back when it ended by itself. */
  onEnd(listener: () => void): void;
  /** Removes all of it. Rejects where it will not die; to be tried again then. */
  destroy(): Promise<void>;
}

export interface WarmPoolOptions<Kind extends WarmKind, Member extends WarmMember> {
  /** What is wanted now; asked at each look. */
  readonly kinds: () => readonly Kind[];
  /** Makes a member, of which nothing exists yet. */
  readonly create: (kind: Kind) => Member;
  /** The least time from a start's end to the next start, in ms. @default 250 */
  readonly refillMs?: number;
  /**
   * The least time from a `take` to the next start, in ms: an agent is slowest with its first prompt, and a start beside it
   * made that take a third longer on two processors. @default 2000
   */
  readonly restMs?: number;
  /** How often it looks without being told (memory, other kinds, sandboxes that would not die), in ms. @default 1000 */
  readonly lookMs?: number;
  /** Share of the host's memory that is available, 0 to 1. @default as the kernel tells it */
  readonly availableMemory?: () => number;
  /** Told how many are ready of each kind, by agent, whenever that may have changed. It must not throw. */
  readonly onChange?: (ready: ReadonlyMap<string, number>) => void;
  /** Told of each one that has become ready. It must not throw. */
  readonly onReady?: (member: Member, agent: string) => void;
  /** Told of each start that failed, and each sandbox that would not die. It must not throw. */
  readonly onError?: (error: unknown, agent: string) => void;
}

type MemberState = "starting" | "ready" | "retiring" | "stuck";

interface Entry<Kind, Member> {
  readonly kind: Kind;
  readonly member: Member;
  state: MemberState;
  /** While it is retiring. */
  retirement?: Promise<void>;
}

/**
 * Sandboxes that are started ahead of their sessions.
 *
 * Each member:
 *
 * starting  one at a time over all agents, with a pause in between and after each `take`, so that a refill takes at most one core's worth
 *           from the turns that run. → ready; fails → retiring, and its kind waits, twice as long each time.
 * ready     its agent has started up and waits. `take` → no member any more: all of it is the taker's. Its agent ended,
 *           its kind changed or is gone, more are there than wanted, or memory is short → retiring.
 * retiring  is being destroyed → gone; or → stuck.
 * stuck     would not die: its slot and user stay taken. → retiring at the next look.
 *
 * The pool: running → stopped, for good: the start that is under way is aborted, all are retired, `take` gives none.
 *
 * A member that is given away was alive a moment ago and may be dead by now: its taker has to be able to start cold.
 */
export class WarmPool<Kind extends WarmKind, Member extends WarmMember> {
  readonly #options: WarmPoolOptions<Kind, Member>;
  readonly #entries = new Set<Entry<Kind, Member>>();
  /** By agent and hash: how often in a row a start failed, and until when none is tried, in monotonic ms. */
  readonly #failures = new Map<string, { readonly count: number; readonly until: number }>();
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  /** When the last one was taken, in monotonic ms. */
  #takenAt = Number.NEGATIVE_INFINITY;
  #wakeUp: (() => void) | undefined;

  constructor(options: WarmPoolOptions<Kind, Member>) {
    this.#options = options;
  }

  /** Begins to fill. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Whether the sandbox or slot with that nonce is its own: from before it exists until it is taken or gone. */
  owns(nonce: string): boolean {
    return this.#entries.values().some(({ member }) => member.nonce === nonce);
  }

  /** A sandbox that is ready, with all its parts, which are the caller's from now on; undefined where none is. */
  take(name: string, hash: string): Member | undefined {
    if (this.#stop.signal.aborted) return undefined;
    for (const entry of this.#entries) {
      const { kind, member, state } = entry;
      if (state !== "ready" || kind.name !== name || kind.hash !== hash || member.hasEnded) continue;
      this.#entries.delete(entry);
      this.#takenAt = performance.now();
      this.#report();
      this.#wakeUp?.();
      return member;
    }
    return undefined;
  }

  /** Resolves when nothing is left of it, save for what would not die: that is the reaper's. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error("the warm pool is stopped"));
    await this.#running;
    await Promise.all([...this.#entries].map((entry) => this.#retire(entry)));
    this.#report();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const kinds = this.#options.kinds();
      const memory = this.#options.availableMemory?.() ?? freemem() / totalmem();
      this.#retireSurplus(kinds, memory < MEMORY_SHORT);
      const next = memory < MEMORY_ENOUGH ? undefined : this.#mostWanted(kinds);
      this.#report();
      const restMs = this.#takenAt + (this.#options.restMs ?? 2_000) - performance.now();
      if (next === undefined) {
        await this.#untilTold();
      } else if (restMs > 0) {
        await delay(restMs, undefined, { signal }).catch(() => undefined);
      } else {
        await this.#startOne(next);
        await delay(this.#options.refillMs ?? 250, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async #untilTold(): Promise<void> {
    const { signal } = this.#stop;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, this.#options.lookMs ?? 1_000);
      this.#wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
      signal.addEventListener("abort", this.#wakeUp, { once: true });
    });
    if (this.#wakeUp !== undefined) signal.removeEventListener("abort", this.#wakeUp);
    this.#wakeUp = undefined;
  }

  async #startOne(kind: Kind): Promise<void> {
    const { signal } = this.#stop;
    const member = this.#options.create(kind);
    const entry: Entry<Kind, Member> = { kind, member, state: "starting" };
    // Before anything of it exists, so that no reaper takes it for an orphan.
    this.#entries.add(entry);
    try {
      await member.prepare(signal);
    } catch (error) {
      if (!signal.aborted) {
        const count = (this.#failures.get(keyOf(kind))?.count ?? 0) + 1;
        const waitMs = Math.min(BACKOFF_FIRST_MS * 2 ** (count - 1), BACKOFF_LONGEST_MS);
        this.#failures.set(keyOf(kind), { count, until: performance.now() + waitMs });
        this.#options.onError?.(error, kind.name);
      }
      await this.#retire(entry);
      return;
    }
    this.#failures.delete(keyOf(kind));
    entry.state = "ready";
    this.#report();
    this.#options.onReady?.(member, kind.name);
    member.onEnd(() => {
      if (entry.state !== "ready" || !this.#entries.has(entry)) return;
      void this.#retire(entry);
      this.#wakeUp?.();
    });
  }

  /** Destroys what is of no use, and with little memory one more. */
  #retireSurplus(kinds: readonly Kind[], isMemoryShort: boolean): void {
    const room = new Map(kinds.map((kind) => [keyOf(kind), kind.size]));
    let given = false;
    for (const entry of this.#entries) {
      const { kind, member, state } = entry;
      if (state === "stuck") void this.#retire(entry);
      if (state !== "ready") continue;
      const left = room.get(keyOf(kind)) ?? 0;
      const isGivenUp: boolean = isMemoryShort && !given;
      if (left > 0 && !member.hasEnded && !isGivenUp) room.set(keyOf(kind), left - 1);
      else {
        given ||= isGivenUp;
        void this.#retire(entry);
      }
    }
    for (const key of this.#failures.keys()) if (!room.has(key)) this.#failures.delete(key);
  }

  /** Of the kinds that lack some and may be started, the one that has the smallest part of what is wanted. */
  #mostWanted(kinds: readonly Kind[]): Kind | undefined {
    const partOf = (kind: Kind) =>
      kind.size === 0
        ? 1
        : this.#readyOf(({ name, hash }) => name === kind.name && hash === kind.hash) / kind.size;
    return kinds
      .filter((kind) => partOf(kind) < 1)
      .filter((kind) => (this.#failures.get(keyOf(kind))?.until ?? 0) <= performance.now())
      .sort((one, other) => partOf(one) - partOf(other))[0];
  }

  /** Never rejects. */
  #retire(entry: Entry<Kind, Member>): Promise<void> {
    if (entry.state === "retiring" && entry.retirement !== undefined) return entry.retirement;
    entry.state = "retiring";
    this.#report();
    entry.retirement = entry.member.destroy().then(
      () => void this.#entries.delete(entry),
      (error: unknown) => {
        entry.state = "stuck";
        this.#options.onError?.(error, entry.kind.name);
      },
    );
    return entry.retirement;
  }

  #readyOf(isWanted: (kind: Kind) => boolean): number {
    return this.#entries
      .values()
      .filter(({ state, kind }) => state === "ready" && isWanted(kind))
      .toArray().length;
  }

  #report(): void {
    const names = [...this.#options.kinds(), ...this.#entries.values().map(({ kind }) => kind)].map(
      ({ name }) => name,
    );
    this.#options.onChange?.(
      new Map(names.map((name) => [name, this.#readyOf((kind) => kind.name === name)])),
    );
  }
}

/** Agents of the same definition are not the same: each has its own failures and its own size. */
function keyOf({ name, hash }: WarmKind): string {
  return `${name} ${hash}`;
}
