import { describe, expect, it } from "vitest";
import { type PlaceHolder, Places } from "./places.ts";

const never = new AbortController().signal;

/** A holder that, when evicted, gives its place back. */
function holder(
  places: Places,
  place: number,
  lingeringSince: number | undefined,
): PlaceHolder & { evicted: boolean } {
  const made = {
    evicted: false,
    lingeringSince,
    evict() {
      made.evicted = true;
      places.release(place);
    },
  };
  places.occupy(place, made);
  return made;
}

describe("Places", () => {
  it("gives each place once, the lowest first, and again after its release", async () => {
    const places = new Places(2);
    expect([await places.acquire(never), await places.acquire(never)]).toEqual([0, 1]);
    places.release(0);
    expect(await places.acquire(never)).toBe(0);
  });

  it("evicts the one that has lingered longest, and none that is at work", async () => {
    const places = new Places(3);
    for (let place = 0; place < 3; place++) await places.acquire(never);
    const working = holder(places, 0, undefined);
    const younger = holder(places, 1, 20);
    const older = holder(places, 2, 10);
    expect(await places.acquire(never)).toBe(2);
    expect([working.evicted, younger.evicted, older.evicted]).toEqual([false, false, true]);
  });

  it("lets those that wait in, in their order, as places come free", async () => {
    const places = new Places(1);
    await places.acquire(never);
    holder(places, 0, undefined);
    const order: string[] = [];
    const first = places.acquire(never).then(() => order.push("first"));
    const second = places.acquire(never).then(() => order.push("second"));
    expect(places.wanted).toBe(true);
    places.release(0);
    await first;
    places.release(0);
    await second;
    expect(order).toEqual(["first", "second"]);
    expect(places.wanted).toBe(false);
  });

  it("forgets one that no longer wants to wait", async () => {
    const places = new Places(1);
    await places.acquire(never);
    const stop = new AbortController();
    const waiting = places.acquire(stop.signal);
    stop.abort(new Error("no more"));
    await expect(waiting).rejects.toThrow("no more");
    expect(places.wanted).toBe(false);
    places.release(0);
    expect(places.taken).toBe(0);
  });
});
