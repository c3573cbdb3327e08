import { join } from "node:path";
import type { Measurement } from "../row.ts";
import { median } from "../turns.ts";
import type { BenchRedis } from "./bench-redis.ts";
import { benchMessage, FleetInProcess } from "./fleet-in-process.ts";

const WARM_UP = 100;
const MESSAGES = 1_000;
const CONVERSATION = "lingering";

/** From the call that accepts a message to the agent that has its prompt, in an activation that waits for one. */
export async function* measureLingering(redis: BenchRedis, directory: string): AsyncGenerator<Measurement> {
  await redis.flush();
  let prompted: (() => void) | undefined;
  await using fleet = await FleetInProcess.start({
    ...{ redisUrl: redis.url, directory: join(directory, "lingering"), agent: { linger: "60s" } },
    onPrompt: () => prompted?.(),
  });
  fleet.serve();
  const times: number[] = [];
  for (let index = 0; index < WARM_UP + MESSAGES; index++) {
    const message = benchMessage(`m${index}`, CONVERSATION);
    const arrived = new Promise<void>((resolve) => {
      prompted = resolve;
    });
    const start = performance.now();
    await Promise.all([fleet.accept(message), arrived]);
    times.push(performance.now() - start);
    // It lingers again once the turn before is committed.
    await fleet.answered(index + 1);
  }
  const sorted = times.slice(WARM_UP).toSorted((a, b) => a - b);
  const roundTripMs = await redis.roundTripMs();
  await redis.flush();
  yield {
    work: "message to prompt in a lingering activation, above Redis' round trip: p50",
    unit: "ms",
    ours: median(sorted) - roundTripMs,
    peer: null,
    target: { of: "ours", atMost: 3 },
  };
  yield {
    work: "  the same: p99",
    unit: "ms",
    ours: (sorted[Math.floor(sorted.length * 0.99)] ?? Number.NaN) - roundTripMs,
    peer: null,
    target: { of: "ours", atMost: 15 },
  };
}
