import { GatheredCalls } from "./gathered-calls.ts";
import { fleetKeys } from "./keys.ts";
import type { RedisClient } from "./redis.ts";
import { Script } from "./script.ts";

const scripts = {
  reserve: new Script("reserve-turns"),
  charge: new Script("charge-turns"),
  rebase: new Script("rebase-turns"),
} as const;

/** The last of BullMQ's priorities (seen: beyond it `add` throws); the first is 1. */
export const LAST_PRIORITY = 2 ** 21 - 1;
/** How far the virtual time may be above the base: as much room is left for the tenant with most turns waiting. */
const REBASE_AFTER = 2 ** 20;
/** How long after a move of the base a job may still be added under the old one, in ms. */
const STRAGGLERS_MS = 60_000;
/** Turns of one call to Redis. */
const GATHERED = 1_000;

/** A waiting turn's place in the order of the fleet. */
export interface TurnTag {
  /** On the line of virtual time: a whole number that only grows. */
  readonly tag: number;
  /** The same as a priority of BullMQ: 1 is first. */
  readonly priority: number;
}

/** The priority of a tag; the last one for what is too far away, or has none. */
export function priorityOf(tag: number | undefined, base: number): number {
  return tag === undefined ? LAST_PRIORITY : Math.min(Math.max(tag - base, 0) + 1, LAST_PRIORITY);
}

/**
 * In which order the turns of all tenants start: start-time fair queueing, with a turn as the unit of service.
 *
 * Each tenant's turns have tags one apart. The first that waits has the virtual time, or one above the tenant's
 * last turn, whichever is later; the virtual time is the tag of the turn that started last. So a tenant with a
 * thousand waiting sessions has tags far into the future, and one that comes with its first is next: of N tenants that
 * all have turns waiting each one gets every Nth start, however many it has.
 *
 * A turn is charged once: by `reserve` where it waits for a worker, by `charge` where a live activation serves it at
 * once. What was reserved and not needed is given back. All of it is one hash of Redis, so it holds over all
 * dispatchers and workers. Redis without the hash begins again at 0: nobody has a debt then.
 */
export class TurnOrder {
  readonly #redis: RedisClient;
  readonly #reservations: GatheredCalls<{ readonly tenant: string; readonly turns: 1 | -1 }, TurnTag>;
  readonly #charges: GatheredCalls<{ readonly tenant: string; readonly tag: number | undefined }, undefined>;

  constructor(redis: RedisClient) {
    this.#redis = redis;
    this.#reservations = new GatheredCalls((items) => this.#reserveAll(items), GATHERED);
    this.#charges = new GatheredCalls((items) => this.#chargeAll(items), GATHERED);
  }

  /** The place of a tenant's next turn that has to wait for a worker. */
  reserve(tenant: string): Promise<TurnTag> {
    return this.#reservations.add({ tenant, turns: 1 });
  }

  /** Gives a place back that was reserved last: the turn waits under another already. */
  async giveBack(tenant: string): Promise<void> {
    await this.#reservations.add({ tenant, turns: -1 });
  }

  /** Says that a turn starts; `tag` is the one that it waited under, if it did. */
  async charge(tenant: string, tag: number | undefined): Promise<void> {
    await this.#charges.add({ tenant, tag });
  }

  /**
   * Keeps priorities below their limit. Gives the base from which waiting jobs have to be given new priorities;
   * undefined where they need none.
   *
   * @param after how far the virtual time may be above the base. @default 2^20
   */
  async rebase(after: number = REBASE_AFTER): Promise<number | undefined> {
    const [base, isDue] = (await scripts.rebase.run(
      this.#redis,
      [fleetKeys.turnOrder],
      [after, STRAGGLERS_MS],
    )) as [number, number];
    return isDue === 1 ? base : undefined;
  }

  async #reserveAll(
    items: readonly { readonly tenant: string; readonly turns: 1 | -1 }[],
  ): Promise<TurnTag[]> {
    // What is one after another of one tenant is reserved as one: many sessions that wake together mostly are that.
    const runs: { readonly tenant: string; turns: number; readonly isReturned: boolean }[] = [];
    for (const { tenant, turns } of items) {
      const last = runs.at(-1);
      if (last?.tenant === tenant && last.isReturned === turns < 0) last.turns += turns;
      else runs.push({ tenant, turns, isReturned: turns < 0 });
    }
    const [base, ...firsts] = (await scripts.reserve.run(
      this.#redis,
      [fleetKeys.turnOrder],
      runs.flatMap(({ tenant, turns }) => [tenant, turns]),
    )) as [number, ...number[]];
    return runs.flatMap(({ turns, isReturned }, run) =>
      Array.from({ length: Math.abs(turns) }, (_, index) => {
        const tag = (firsts[run] as number) + (isReturned ? 0 : index);
        return { tag, priority: priorityOf(tag, base) };
      }),
    );
  }

  async #chargeAll(
    items: readonly { readonly tenant: string; readonly tag: number | undefined }[],
  ): Promise<undefined[]> {
    await scripts.charge.run(
      this.#redis,
      [fleetKeys.turnOrder],
      items.flatMap(({ tenant, tag }) => [tenant, tag ?? ""]),
    );
    return items.map(() => undefined);
  }
}
