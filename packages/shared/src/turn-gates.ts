import { gateKeys, tenantKeys, userDayKey } from "./keys.ts";
import type { RedisClient } from "./redis.ts";
import { Script } from "./script.ts";

const scripts = {
  enter: new Script("enter-gates"),
  leave: new Script("leave-gates"),
  keep: new Script("keep-gates"),
  countUserMessage: new Script("count-user-message"),
} as const;

/** How long the ids of a user's messages of a day are kept, in ms: for as long as one of them may be tried again. */
const DAY_KEPT_MS = 3 * 24 * 3_600_000;

/** Lets so many turns run at once: of a tenant, or of one user of an agent. */
export interface TurnGate {
  /** Unique within the tenant. */
  readonly name: string;
  /** Turns at once. */
  readonly limit: number;
}

export interface GateEntry {
  /** The gate that is full, and at which the session waits now; undefined: inside. */
  readonly fullAt: TurnGate | undefined;
  /** Other sessions that waited and have room now: their wakes are to be hurried. */
  readonly called: readonly string[];
}

/**
 * How many turns of a tenant, and of each of its users, run at once, over all workers.
 *
 * A session that finds a gate full waits there, by the age of its message. waiting → (somebody leaves) called: room is
 * kept for it for as long as a permit lives; who leaves hurries its wake → inside, when its worker enters. A permit has
 * to be kept, and expires with the lease of a worker that was killed: `callWaiting`, by the sweeper, gives such room
 * away. One that was called and does not come loses its room, and is first again when it does.
 */
export class TurnGates {
  readonly #redis: RedisClient;
  readonly #ttlMs: number;

  /** @param ttlMs how long a permit lives that is not kept, and room is kept for who was called */
  constructor(redis: RedisClient, ttlMs: number) {
    this.#redis = redis;
    this.#ttlMs = ttlMs;
  }

  /** Enters all gates, or none. Idempotent for who is inside. */
  async enter(
    tenant: string,
    gates: readonly TurnGate[],
    who: { readonly permit: string; readonly sessionId: string; readonly sinceMs: number },
  ): Promise<GateEntry> {
    const [full, ...called] = (await scripts.enter.run(this.#redis, keysOf(tenant, gates), [
      who.permit,
      who.sessionId,
      who.sinceMs,
      this.#ttlMs,
      ...argumentsOf(gates),
    ])) as [number, ...string[]];
    return {
      fullAt: full === 0 ? undefined : gates[full - 1],
      called: called.filter((sessionId) => sessionId !== who.sessionId),
    };
  }

  /** Gives a permit's room away; gives the sessions that were called. */
  async leave(tenant: string, gates: readonly TurnGate[], permit: string): Promise<readonly string[]> {
    const args = [permit, this.#ttlMs, ...argumentsOf(gates)];
    return (await scripts.leave.run(this.#redis, keysOf(tenant, gates), args)) as string[];
  }

  /** Prolongs a permit. */
  async keep(tenant: string, gates: readonly TurnGate[], permit: string): Promise<void> {
    const keys = gates.map(({ name }) => gateKeys(tenant, name).inside);
    await scripts.keep.run(this.#redis, keys, [permit, this.#ttlMs]);
  }

  /** Whether room is kept for a session at a gate where it waited. */
  async isCalled(tenant: string, gate: TurnGate, sessionId: string): Promise<boolean> {
    return (await this.#redis.zscore(gateKeys(tenant, gate.name).inside, `call:${sessionId}`)) !== null;
  }

  /** Gives room away that nobody gave back; `limitOf` says how much a gate has now. Gives the sessions called. */
  async callWaiting(tenant: string, limitOf: (gate: string) => number): Promise<readonly string[]> {
    const names = await this.#redis.smembers(tenantKeys(tenant).gatesWaiting);
    const called: string[] = [];
    for (const name of names)
      called.push(...(await this.leave(tenant, [{ name, limit: limitOf(name) }], "")));
    return called;
  }

  /** How many of the tenant's sessions wait at its gates. */
  async countWaiting(tenant: string): Promise<number> {
    const names = await this.#redis.smembers(tenantKeys(tenant).gatesWaiting);
    const counts = await Promise.all(names.map((name) => this.#redis.zcard(gateKeys(tenant, name).waiting)));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /**
   * Counts a message of a user, once however often it is tried; false where the day's are spent.
   *
   * @param user unique within the tenant
   * @param day and `dayBefore`: names of days, in the agent's time zone
   */
  async countUserMessage(
    tenant: string,
    user: string,
    message: {
      readonly id: string;
      readonly day: string;
      readonly dayBefore: string;
      readonly limit: number;
    },
  ): Promise<boolean> {
    const keys = [userDayKey(tenant, user, message.day), userDayKey(tenant, user, message.dayBefore)];
    const args = [message.id, message.limit, DAY_KEPT_MS];
    return (await scripts.countUserMessage.run(this.#redis, keys, args)) === 1;
  }
}

function keysOf(tenant: string, gates: readonly TurnGate[]): string[] {
  return [
    tenantKeys(tenant).gatesWaiting,
    ...gates.flatMap(({ name }) => {
      const { inside, waiting } = gateKeys(tenant, name);
      return [inside, waiting];
    }),
  ];
}

function argumentsOf(gates: readonly TurnGate[]): (string | number)[] {
  return gates.flatMap(({ name, limit }) => [name, limit]);
}
