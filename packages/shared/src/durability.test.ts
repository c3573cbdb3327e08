import { describe, expect, it } from "vitest";
import { describeDurability, judgeDurability } from "./durability.ts";
import type { RedisFacts } from "./redis-facts.ts";

const plain: RedisFacts = {
  version: "7.0.15",
  evictionPolicy: "noeviction",
  isAppendOnly: true,
  flush: "everysec",
  pausesFlush: false,
  canWaitForFile: false,
  replicas: 0,
};
const always: RedisFacts = { ...plain, flush: "always" };

describe("judgeDurability", () => {
  it("asks nothing of Redis for what it does by itself", () => {
    expect(judgeDurability("local", [plain])).toEqual({ ask: "nothing", problems: [], missing: [] });
    expect(judgeDurability("fsync", [always])).toEqual({ ask: "nothing", problems: [], missing: [] });
  });

  it("waits for the file where Redis can, and refuses where it neither flushes nor can be waited for", () => {
    expect(judgeDurability("fsync", [always, { ...plain, canWaitForFile: true }])).toMatchObject({
      ask: "WAITAOF",
      problems: [],
    });
    for (const facts of [plain, { ...plain, flush: undefined }, { ...always, pausesFlush: true }])
      expect(judgeDurability("fsync", [always, facts]).problems).toHaveLength(1);
  });

  it("waits for replicas, and says where there is none now", () => {
    expect(judgeDurability("replica", [{ ...plain, replicas: 1 }])).toEqual({
      ...{ ask: "WAIT", problems: [], missing: [] },
    });
    expect(judgeDurability("replica", [{ ...plain, replicas: 1 }, plain]).missing).toHaveLength(1);
  });

  it("finds a server without a file unsuitable for anything", () => {
    for (const wanted of ["local", "fsync", "replica"] as const)
      expect(judgeDurability(wanted, [{ ...always, isAppendOnly: false }]).problems).toHaveLength(1);
  });
});

it("describes what is survived", () => {
  expect(describeDurability("local", [plain])).toBe(
    "an accepted message survives a restart of Redis; the loss of power takes up to a second; no replica, so not the loss of its disk",
  );
  expect(describeDurability("fsync", [always])).toContain("and the loss of power");
  expect(describeDurability("replica", [{ ...plain, replicas: 1 }])).toContain("it is on a replica");
});
