import { describe, expect, it } from "vitest";
import { type ListedGeneration, retainedGenerations } from "./retained.ts";

const DAY_MS = 24 * 60 * 60 * 1000;
const NOW_MS = 1000 * DAY_MS;

/** Generations from the newest downwards, a day apart. */
function daily(newest: number, count: number): ListedGeneration[] {
  return Array.from({ length: count }, (_, age) => ({
    generation: newest - age,
    modifiedMs: NOW_MS - age * DAY_MS,
  }));
}

function kept(
  listed: readonly ListedGeneration[],
  generations: number,
  days: number,
  options: { floor?: number; youngDays?: number } = {},
): number[] {
  const { floor = 0, youngDays = 1 } = options;
  return retainedGenerations(
    listed,
    { generations, days },
    { nowMs: NOW_MS, youngMs: youngDays * DAY_MS, floor },
  );
}

describe("retained generations", () => {
  it("are the newest, and what is younger than the days", () => {
    expect(kept(daily(9, 9), 3, 0)).toEqual([9, 8, 7]);
    expect(kept(daily(9, 9), 3, 5)).toEqual([9, 8, 7, 6, 5]);
    expect(kept(daily(9, 9), 20, 0)).toHaveLength(9);
    expect(kept([], 3, 0)).toEqual([]);
  });

  it("are all that somebody may still be at work with", () => {
    expect(kept(daily(9, 9), 1, 0, { youngDays: 4 })).toEqual([9, 8, 7, 6]);
  });

  it("are never none, however old", () => {
    const old = [{ generation: 4, modifiedMs: 0 }];
    expect(kept(old, 1, 0)).toEqual([4]);
    expect(kept(old, 1, 0, { floor: 5 })).toEqual([4]);
  });

  it("end at a gap, below which there are only late puts", () => {
    const listed = [...daily(9, 3), { generation: 5, modifiedMs: NOW_MS }];
    expect(kept(listed, 100, 100)).toEqual([9, 8, 7]);
  });

  it("do not come back below the floor", () => {
    expect(kept(daily(9, 9), 100, 100, { floor: 6 })).toEqual([9, 8, 7, 6]);
  });
});
