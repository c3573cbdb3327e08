import { join } from "node:path";
import type { Measurement } from "../row.ts";
import type { BenchRedis } from "./bench-redis.ts";
import { FleetInProcess } from "./fleet-in-process.ts";
import { acceptRate } from "./rates.ts";

const SESSIONS = 100_000;
const MESSAGES = 1_000_000;
const BATCH = 10_000;
const ROUNDS = 5;

/** How fast messages are accepted while a million of them waits, beside the rate with none. */
export async function* measureBacklog(redis: BenchRedis, directory: string): AsyncGenerator<Measurement> {
  const at = join(directory, "backlog");
  await redis.flush();
  const empty = await bestOf(async (round) => {
    const rate = await acceptRate(redis, at, BATCH, `empty-${round}`);
    await redis.flush();
    return rate;
  });
  await using fleet = await FleetInProcess.start({ redisUrl: redis.url, directory: at });
  await fleet.fill(MESSAGES, SESSIONS);
  const full = await bestOf((round) => acceptRate(redis, at, BATCH, `full-${round}`));
  await redis.flush();
  yield {
    work: "accept while 1000000 messages wait",
    unit: "messages/s",
    ours: full,
    peer: empty,
    peerCommand: "the same while none waits",
    target: { of: "ratio", atLeast: 0.8 },
  };
}

async function bestOf(measure: (round: number) => Promise<number>): Promise<number> {
  let best = 0;
  for (let round = 0; round < ROUNDS; round++) best = Math.max(best, await measure(round));
  return best;
}
