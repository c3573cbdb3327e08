import { join } from "node:path";
import type { Measurement } from "../row.ts";
import { atOnce } from "./at-once.ts";
import type { BenchRedis } from "./bench-redis.ts";
import { benchMessage, FleetInProcess } from "./fleet-in-process.ts";
import { type PlainRates, plainCommands, runPlainQueue } from "./plain-queue.ts";

/** Each side's figure is that of its best batch: other work of the machine only ever makes one slower. */
const ROUNDS = 5;
/** Calls at once, of ours and of the peer's. */
const CONCURRENCY = 256;
const ACCEPTED = 10_000;
const ANSWERED = 3_000;
/** Activations at once. */
const PLACES = 64;
const HOT_SESSIONS = 50;
/** As many turns of as many messages as coalesce by default: no quiet time is waited for at the end. */
const HOT_MESSAGES = 10 * 20;

/** How many messages a second are accepted, and accepted and answered, beside plain jobs of BullMQ. */
export async function* measureRates(
  redis: BenchRedis,
  directory: string,
  wants: (part: string) => boolean,
): AsyncGenerator<Measurement> {
  const accepting = { unit: "messages/s", peerCommand: plainCommands.add } as const;
  const answering = { unit: "messages/s", peerCommand: plainCommands.process } as const;
  if (wants("accept")) {
    const { ours, plain } = await bestBeside(redis, () =>
      acceptRate(redis, join(directory, "accept"), ACCEPTED),
    );
    yield {
      ...{ work: "accept, distinct sessions", ...accepting, ours, peer: plain.add },
      target: { of: "ratio", atLeast: 0.5 },
    };
  }
  if (wants("answer")) {
    const { ours, plain } = await bestBeside(redis, () => answerRate(redis, join(directory, "answer")));
    yield {
      ...{ work: "accept and answer, distinct sessions", ...answering, ours, peer: plain.process },
      target: { of: "ratio", atLeast: 0.4 },
    };
  }
  if (wants("hot")) {
    const { ours, plain } = await bestBeside(redis, () => hotRate(redis, join(directory, "hot")));
    yield {
      ...{ work: `accept and answer, ${HOT_SESSIONS} sessions, coalescing`, ...answering },
      ...{ ours, peer: plain.process, target: { of: "ratio", atLeast: 1 } },
    };
  }
}

/** The best of a few batches of ours, and of plain BullMQ's, which take turns. */
async function bestBeside(
  redis: BenchRedis,
  measure: () => Promise<number>,
): Promise<{ readonly ours: number; readonly plain: PlainRates }> {
  const best = { ours: 0, add: 0, process: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    const plain = await runPlainQueue(redis.url, { jobs: ACCEPTED, concurrency: CONCURRENCY });
    await redis.flush();
    best.ours = Math.max(best.ours, await measure());
    await redis.flush();
    best.add = Math.max(best.add, plain.add);
    best.process = Math.max(best.process, plain.process);
  }
  return { ours: best.ours, plain: best };
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
    agent: { linger: "60s", busy: "coalesce" },
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
