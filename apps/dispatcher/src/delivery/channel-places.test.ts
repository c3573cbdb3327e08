import type { Clock } from "@longshore/shared";
import { expect, it } from "vitest";
import { ChannelPlaces } from "./channel-places.ts";

let now = 0;
const clock: Clock = { now: () => now, monotonic: () => now };
const open = () => new ChannelPlaces({ places: 64, channelPlaces: 8, clock });

function takeAll(places: ChannelPlaces, name: string): (() => void)[] {
  const taken: (() => void)[] = [];
  for (;;) {
    const place = places.take(name);
    if (typeof place === "number") return taken;
    taken.push(place);
  }
}

it("gives a channel its places, and no more until one is free", () => {
  const places = open();
  const taken = takeAll(places, "a");
  expect(taken).toHaveLength(8);
  taken[0]?.();
  expect(takeAll(places, "a")).toHaveLength(1);
});

it("has a place for one more channel, however many are stuck (I10)", () => {
  const places = open();
  const stuck = Array.from({ length: 30 }, (_, index) => takeAll(places, `slow ${index}`).length);
  expect(stuck.slice(0, 3)).toEqual([8, 8, 8]);
  expect(Math.min(...stuck)).toBeGreaterThan(0);
  expect(typeof places.take("another")).toBe("function");
});

it("sends those beyond it away one after another, as fast as places become free", () => {
  const places = open();
  for (let round = 0; round < 100; round++) {
    const taken = takeAll(places, "a");
    now += 800;
    for (const free of taken.slice(1)) free();
    places.take("a");
    taken[0]?.();
  }
  while (typeof places.take("a") !== "number");
  const waits = Array.from({ length: 10 }, () => places.take("a") as number);
  // Eight places, each taken for about 800 ms.
  for (const [index, wait] of waits.slice(1).entries())
    expect(Math.abs(wait - (waits[index] as number) - 100)).toBeLessThan(15);
  for (let count = 0; count < 10_000; count++) places.take("a");
  expect(places.take("a")).toBeLessThanOrEqual(30_000);
});
