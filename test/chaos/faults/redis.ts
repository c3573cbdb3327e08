import { setTimeout as delay } from "node:timers/promises";
import { openTurnWakes } from "@longshore/shared";
import { Redis } from "ioredis";
import { copyRedis } from "../../support/redis-copy.ts";
import type { ChaosFleet } from "../chaos-fleet.ts";
import type { Fault } from "./fault.ts";

/** Processes come back to Redis within so long; what happens until then may be of its absence. */
const RETURN_MS = 4_000;

async function away(
  fleet: ChaosFleet,
  kind: string,
  effects: Parameters<ChaosFleet["begin"]>[2],
  work: () => Promise<void>,
): Promise<boolean> {
  const over = fleet.begin(kind, "all", effects);
  await work();
  await delay(RETURN_MS);
  over();
  return true;
}

/** In order: what it accepted is in its file. */
export const restartRedis: Fault = (fleet) =>
  away(fleet, "Redis restarted", ["redis-away"], async () => {
    await fleet.fleet.redis.stop();
    await fleet.fleet.redis.restart();
  });

/** What was written in the last second may be lost with it, so clients send again what has no answer. */
export const killRedis: Fault = (fleet) =>
  away(fleet, "Redis killed", ["redis-away", "redis-lost"], async () => {
    await fleet.fleet.redis.kill();
    await fleet.fleet.redis.restart();
    fleet.traffic.sendAgain();
  });

/** Goes on for a while, and then comes back as it was before. */
export const restoreRedis: Fault = (fleet, _seat, random) =>
  away(fleet, "Redis restored from an older copy", ["redis-away", "redis-lost"], async () => {
    const restore = await copyRedis(fleet.fleet.redis, fleet.fleet.directory);
    await delay(random.integer(500, 3_000));
    await restore();
    fleet.traffic.sendAgain();
  });

/** A replica takes its place, without what had not reached it. */
export const failOverRedis: Fault = (fleet, _seat, random) =>
  away(fleet, "Redis failed over", ["redis-away", "redis-lost"], async () => {
    await fleet.failOverRedis(random.integer(0, 1_000));
    fleet.traffic.sendAgain();
  });

export const pauseRedis: Fault = (fleet, _seat, random) =>
  away(fleet, "Redis stopped", ["redis-away"], async () => {
    await fleet.fleet.redis.signal("SIGSTOP");
    await delay(random.integer(500, 5_000));
    await fleet.fleet.redis.signal("SIGCONT");
  });

export const killClients: Fault = (fleet) =>
  away(fleet, "clients of Redis killed", ["redis-away"], async () => {
    await using redis = connect(fleet);
    for (const type of ["normal", "pubsub"]) await redis.client.call("CLIENT", "KILL", "TYPE", type);
  });

/** Wakes that nobody asked for: they are hints, and must do no harm. */
export const addWakes: Fault = async (fleet) => {
  await using redis = connect(fleet);
  const wakes = openTurnWakes(redis.client);
  const over = fleet.begin("stray wakes", "all");
  for (const { sessionId } of fleet.traffic.senders)
    await wakes.queue.add("wake", { sessionId }, { removeOnComplete: true });
  await wakes.close();
  over();
  return true;
};

/** Wakes that wait are gone: the sweeper brings back what is needed. */
export const loseWakes: Fault = (fleet) => withWakes(fleet, "wakes lost", [], (queue) => queue.drain(true));

/** The whole queue is gone, with the wakes under which sessions are served now. */
export const obliterateWakes: Fault = (fleet) =>
  withWakes(fleet, "queue of wakes obliterated", ["jobs-lost"], (queue) => queue.obliterate({ force: true }));

async function withWakes(
  fleet: ChaosFleet,
  kind: string,
  effects: Parameters<ChaosFleet["begin"]>[2],
  work: (queue: ReturnType<typeof openTurnWakes>["queue"]) => Promise<void>,
): Promise<boolean> {
  await using redis = connect(fleet);
  const wakes = openTurnWakes(redis.client);
  const over = fleet.begin(kind, "all", effects);
  await work(wakes.queue);
  await wakes.close();
  over();
  return true;
}

function connect(fleet: ChaosFleet): AsyncDisposable & { readonly client: Redis } {
  const client = new Redis(fleet.fleet.redis.url, { maxRetriesPerRequest: null });
  // It comes back by itself.
  client.on("error", () => undefined);
  return { client, [Symbol.asyncDispose]: async () => client.disconnect() };
}
