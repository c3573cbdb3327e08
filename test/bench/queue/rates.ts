import { join } from "node:path";
import type { Measurement } from "../row.ts";
import { atOnce } from "./at-once.ts";
import type { BenchRedis } from "./bench-redis.ts";
import { benchMessage, FleetInProcess } from "./fleet-in-process.ts";
import { plainCommands, runPlainQueue } from "./plain-queue.ts";

/** Each side's figure is that of its best batch: other work of the machine only ever makes one slower. */
const ROUNDS = 5;
/** Calls at once, of ours and of the peer's. */
const CONCURRENCY = 256;
const ACCEPTED = 10_000;
const ANSWERED = 3_000;
/** Activations at once. */
const PLACES = 64;
const HOT_SESSIONS = 50;
const HOT_MESSAGES = 40;

/** How many messages a second are accepted, and accepted and answered, beside plain jobs of BullMQ. */
export async function* measureRates(redis: BenchRedis, directory: string): AsyncGenerator<Measurement> {
  const best = { add: 0, process: 0, accept: 0, answer: 0, hot: 0 };
  const keep = (name: keyof typeof best, rate: number) => {
    best[name] = Math.max(best[name], rate);
  };
  for (let round = 0; round < ROUNDS; round++) {
    const plain = await runPlainQueue(redis.url, { jobs: ACCEPTED, concurrency: CONCURRENCY });
    keep("add", plain.add);
    keep("process", plain.process);
    await redis.flush();
    keep("accept", await acceptRate(redis, join(directory, "accept"), ACCEPTED));
    await redis.flush();
    keep("answer", await answerRate(redis, join(directory, "answer")));
    await redis.flush();
    keep("hot", await hotRate(redis, join(directory, "hot")));
    await redis.flush();
  }
  const process = { unit: "messages/s", peer: best.process, peerCommand: plainCommands.process } as const;
  yield {
    work: "accept, distinct sessions",
    unit: "messages/s",
    ours: best.accept,
    peer: best.add,
    peerCommand: plainCommands.add,
    target: { of: "ratio", atLeast: 0.5 },
  };
  yield {
    ...{ work: "accept and answer, distinct sessions", ...process, ours: best.answer },
    target: { of: "ratio", atLeast: 0.4 },
  };
  yield {
    ...{ work: `accept and answer, ${HOT_SESSIONS} sessions`, ...process, ours: best.hot },
    target: { of: "ratio", atLeast: 1 },
  };
}

/** Messages a second that are accepted, each of a session of its own, where nobody serves them. */
export async function acceptRate(
  redis: BenchRedis,
  directory: string,
  count: number,
  name = "accepted",
): Promise<number> {
  await using fleet = await FleetInProcess.start({ redisUrl: redis.url, directory });
  const messages = Array.from({ length: count }, (_, index) => benchMessage(`${name}-${index}`));
  const ms = await atOnce(count, CONCURRENCY, async (index) => {
    await fleet.accept(messages[index] as (typeof messages)[number]);
  });
  return (count / ms) * 1_000;
}

/** Messages a second from the first that is accepted to the last that is answered, each a cold activation. */
async function answerRate(redis: BenchRedis, directory: string): Promise<number> {
  await using fleet = await FleetInProcess.start({ redisUrl: redis.url, directory, places: PLACES });
  const messages = Array.from({ length: ANSWERED }, (_, index) => benchMessage(`m${index}`));
  return await serveAll(fleet, messages);
}

/** The same with few sessions, in which many messages wait while a turn runs, in activations that linger. */
async function hotRate(redis: BenchRedis, directory: string): Promise<number> {
  await using fleet = await FleetInProcess.start({
    ...{ redisUrl: redis.url, directory, places: HOT_SESSIONS },
    agent: { linger: "60s" },
  });
  const messages = Array.from({ length: HOT_SESSIONS * HOT_MESSAGES }, (_, index) =>
    benchMessage(`m${index}`, `hot-${index % HOT_SESSIONS}`),
  );
  return await serveAll(fleet, messages);
}

async function serveAll(
  fleet: FleetInProcess,
  messages: readonly ReturnType<typeof benchMessage>[],
): Promise<number> {
  fleet.serve();
  const start = performance.now();
  await atOnce(messages.length, CONCURRENCY, async (index) => {
    await fleet.accept(messages[index] as (typeof messages)[number]);
  });
  await fleet.answered(messages.length);
  return (messages.length / (performance.now() - start)) * 1_000;
}
