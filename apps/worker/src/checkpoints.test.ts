import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Checkpoints } from "./checkpoints.ts";

describe("checkpoints", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  function every(everyMs: number) {
    const taken: PromiseWithResolvers<void>[] = [];
    const failures: unknown[] = [];
    const checkpoints = new Checkpoints({
      everyMs,
      take: () => {
        const one = Promise.withResolvers<void>();
        taken.push(one);
        return one.promise;
      },
      onFailure: (error) => failures.push(error),
    });
    return { checkpoints, taken, failures };
  }

  it("are taken one at a time, each so long after the end of the one before", async () => {
    const { checkpoints, taken } = every(100);
    await vi.advanceTimersByTimeAsync(99);
    expect(taken).toHaveLength(0);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(taken).toHaveLength(1);
    taken[0]?.resolve();
    await vi.advanceTimersByTimeAsync(99);
    expect(taken).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(taken).toHaveLength(2);
    taken[1]?.resolve();
    await checkpoints.stop();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(taken).toHaveLength(2);
  });

  it("are over when they are stopped: the one that is being taken is waited for", async () => {
    const { checkpoints, taken } = every(100);
    await vi.advanceTimersByTimeAsync(100);
    let stopped = false;
    const stopping = checkpoints.stop().then(() => {
      stopped = true;
    });
    await vi.advanceTimersByTimeAsync(1_000);
    expect(stopped).toBe(false);
    taken[0]?.resolve();
    await stopping;
    await vi.advanceTimersByTimeAsync(1_000);
    expect(taken).toHaveLength(1);
  });

  it("end with a failure, which is told", async () => {
    const { checkpoints, taken, failures } = every(100);
    await vi.advanceTimersByTimeAsync(100);
    const failure = new Error("no more");
    taken[0]?.reject(failure);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(failures).toEqual([failure]);
    expect(taken).toHaveLength(1);
    await checkpoints.stop();
  });

  it("are none with 0", async () => {
    const { taken } = every(0);
    await vi.advanceTimersByTimeAsync(100_000);
    expect(taken).toHaveLength(0);
  });
});
