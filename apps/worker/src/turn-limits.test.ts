import { systemClock } from "@longshore/shared";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { TurnLimits } from "./turn-limits.ts";

const LIMITS = { turn: 60_000, idle: 2_000 } as ConstructorParameters<typeof TurnLimits>[0];

describe("the limits of a turn", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] }));
  afterEach(() => void vi.useRealTimers());

  function start(excusedUntil: () => number = () => Number.NEGATIVE_INFINITY) {
    return new TurnLimits(LIMITS, systemClock, () => "", excusedUntil);
  }

  it("are exceeded by silence, counted from the last sign", () => {
    const limits = start();
    vi.advanceTimersByTime(1_900);
    limits.sign();
    vi.advanceTimersByTime(1_999);
    expect(limits.signal.aborted).toBe(false);
    vi.advanceTimersByTime(2);
    expect(limits.signal.reason).toMatchObject({ code: "IDLE_TIMEOUT" });
  });

  it("are exceeded by the turn as a whole, whatever the signs", () => {
    const limits = start(() => performance.now());
    vi.advanceTimersByTime(60_001);
    expect(limits.signal.reason).toMatchObject({ code: "TURN_TIMEOUT" });
  });

  it("give the agent the whole idle time after it was excused, whenever that ends", () => {
    const begun = performance.now();
    const limits = start(() => Math.min(performance.now(), begun + 3_999));
    vi.advanceTimersByTime(5_998);
    expect(limits.signal.aborted).toBe(false);
    vi.advanceTimersByTime(2);
    expect(limits.signal.reason).toMatchObject({ code: "IDLE_TIMEOUT" });
  });
});
