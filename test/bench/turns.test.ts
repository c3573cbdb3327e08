import { describe, expect, it } from "vitest";
import { type Contender, median, takeTurns } from "./turns.ts";

/** Contenders that take as long as they are told, and the order in which they were run. */
function contenders(costs: Readonly<Record<string, number>>) {
  const order: string[] = [];
  const make = (name: string): Contender<number> => ({
    name,
    run: (round) => {
      order.push(`${name}${round}`);
      return Promise.resolve(costs[name] ?? 0);
    },
  });
  return { order, make };
}

describe("taking turns", () => {
  it("lets another one begin in each round", async () => {
    const { order, make } = contenders({ a: 1, b: 1, c: 1 });
    const results = await takeTurns([make("a")], [make("b"), make("c")], { cost: (figure) => figure });
    expect(order.join(" ")).toBe("a0 b0 c0 b1 c1 a1 c2 a2 b2");
    expect(results.get("a")).toEqual([1, 1, 1]);
  });

  it("runs a peer once that is more than three times as slow as the fastest peer", async () => {
    const { order, make } = contenders({ ours: 1, quick: 10, slow: 30, hopeless: 31 });
    const peers = [make("hopeless"), make("slow"), make("quick")];
    const results = await takeTurns([make("ours")], peers, { rounds: 2, cost: (figure) => figure });
    expect(order.filter((name) => name.endsWith("1"))).toEqual(["slow1", "quick1", "ours1"]);
    expect(results.get("hopeless")).toEqual([31]);
  });

  it("runs ours every time, however slow it is", async () => {
    const { order, make } = contenders({ ours: 1000, quick: 1 });
    await takeTurns([make("ours")], [make("quick")], { rounds: 2, cost: (figure) => figure });
    expect(order).toContain("ours1");
  });
});

it("finds the median by number, not by text", () => {
  expect(median([100, 9, 20])).toBe(20);
});
