import { randomUUID } from "node:crypto";
import { gateKeys, hashId, type TurnGate, TurnGates, tenantKeys } from "@longshore/shared";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { openRedisFixture, type RedisFixture } from "./redis-fixture.ts";

let redis: RedisFixture;
let gates: TurnGates;
let tenant: string;
const turns: TurnGate = { name: "turns", limit: 2 };
const user: TurnGate = { name: "helper/u1", limit: 1 };

beforeAll(async () => {
  redis = await openRedisFixture();
});
afterAll(() => redis[Symbol.asyncDispose]());
beforeEach(() => {
  gates = new TurnGates(redis.client, 60_000);
  tenant = randomUUID();
});

const session = (name: string) => hashId(name);
const enter = (name: string, sinceMs: number, at: TurnGate[] = [turns]) =>
  gates.enter(tenant, at, { permit: `permit-${name}`, sessionId: session(name), sinceMs });
const leave = (name: string, at: TurnGate[] = [turns]) => gates.leave(tenant, at, `permit-${name}`);
const entered = { fullAt: undefined, called: [] };

/** What a killed worker held expires. */
async function expire(name: string, at: TurnGate): Promise<void> {
  await redis.client.zadd(gateKeys(tenant, at.name).inside, 1, `permit-${name}`);
}

describe("a gate", () => {
  it("lets its limit in, and calls who waits longest when somebody leaves", async () => {
    expect(await enter("a", 1)).toEqual(entered);
    expect(await enter("b", 2)).toEqual(entered);
    expect(await enter("young", 9)).toEqual({ fullAt: turns, called: [] });
    expect(await enter("old", 3)).toEqual({ fullAt: turns, called: [] });
    expect(await gates.isCalled(tenant, turns, session("old"))).toBe(false);
    expect(await leave("a")).toEqual([session("old")]);
    expect(await gates.isCalled(tenant, turns, session("old"))).toBe(true);
    // Its room is kept: nobody who comes just then takes it.
    expect(await enter("newcomer", 99)).toEqual({ fullAt: turns, called: [] });
    expect(await enter("old", 3)).toEqual(entered);
    expect(await leave("b")).toEqual([session("young")]);
  });

  it("is entered once by who is inside, even if it is full", async () => {
    await enter("a", 1);
    await enter("b", 2);
    expect(await enter("a", 1)).toEqual(entered);
    await leave("a");
    expect(await enter("c", 3)).toEqual(entered);
  });

  it("gives the room of who is gone to who waits, when somebody looks", async () => {
    await enter("a", 1);
    await enter("b", 2);
    await enter("c", 3);
    expect(await gates.callWaiting(tenant, () => 2)).toEqual([]);
    await expire("a", turns);
    expect(await gates.callWaiting(tenant, () => 2)).toEqual([session("c")]);
    expect(await redis.client.smembers(tenantKeys(tenant).gatesWaiting)).toEqual([]);
  });

  it("gives more room when its limit was raised", async () => {
    for (const [index, name] of ["a", "b", "c", "d"].entries()) await enter(name, index);
    expect(await gates.callWaiting(tenant, () => 10)).toEqual([session("c"), session("d")]);
  });

  it("keeps a permit that is prolonged", async () => {
    await enter("a", 1);
    await enter("b", 2);
    await expire("a", turns);
    await gates.keep(tenant, [turns], "permit-a");
    expect(await enter("c", 3)).toEqual({ fullAt: turns, called: [] });
  });

  it("is a tenant's own", async () => {
    await enter("a", 1);
    await enter("b", 2);
    tenant = randomUUID();
    expect(await enter("c", 3)).toEqual(entered);
  });
});

describe("two gates", () => {
  it("are entered both or not at all", async () => {
    await enter("a", 1, [turns, user]);
    expect(await enter("b", 2, [turns, user])).toEqual({ fullAt: user, called: [] });
    // It holds nothing at the first.
    expect(await enter("c", 3)).toEqual(entered);
    expect(await enter("d", 4)).toEqual({ fullAt: turns, called: [] });
  });

  it("pass room on that was kept for one who is stopped at the other", async () => {
    await enter("a", 1, [turns, user]);
    await enter("b", 2);
    await enter("same user", 3, [turns, user]);
    await enter("other", 4);
    expect(await leave("b")).toEqual([session("same user")]);
    expect(await enter("same user", 3, [turns, user])).toEqual({ fullAt: user, called: [session("other")] });
    expect(await enter("other", 4)).toEqual(entered);
    expect((await leave("a", [turns, user])).includes(session("same user"))).toBe(true);
  });
});

describe("a user's messages of a day", () => {
  const count = (id: string, day = "2026-03-02", dayBefore = "2026-03-01") =>
    gates.countUserMessage(tenant, "helper/u1", { id, day, dayBefore, limit: 2 });

  it("are counted once each, whatever day they are tried on", async () => {
    expect(await count("1")).toBe(true);
    expect(await count("1")).toBe(true);
    expect(await count("2")).toBe(true);
    expect(await count("3")).toBe(false);
    expect(await count("2", "2026-03-03", "2026-03-02")).toBe(true);
    expect(await count("3", "2026-03-03", "2026-03-02")).toBe(true);
    expect(await count("4", "2026-03-03", "2026-03-02")).toBe(true);
    expect(await count("5", "2026-03-03", "2026-03-02")).toBe(false);
  });
});
