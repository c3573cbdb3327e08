import { join } from "node:path";
import { ScratchDirectory } from "../../infra/setup/scratch-directory.ts";
import { measureBacklog } from "./queue/backlog.ts";
import { BenchRedis } from "./queue/bench-redis.ts";
import { measureBwrapRate } from "./queue/bwrap-rate.ts";
import { measureIdleSessions } from "./queue/idle-sessions.ts";
import { measureKilledWorker } from "./queue/killed-worker.ts";
import { measureLingering } from "./queue/lingering.ts";
import { measureRates } from "./queue/rates.ts";
import { required } from "./required.ts";
import type { Benchmark } from "./row.ts";

/**
 * Conversations: how fast messages are accepted and answered beside plain jobs of BullMQ on the same Redis in the same
 * run, what idle sessions and a backlog cost, and how soon a killed worker's sessions go on.
 */
export const benchmark: Benchmark = async function* (wants) {
  await using scratch = await ScratchDirectory.create();
  const rootfs = () => required("LONGSHORE_TEST_ROOTFS", "queue");
  if (["accept", "answer", "hot", "lingering", "idle", "backlog"].some(wants)) {
    await using redis = await BenchRedis.start(join(scratch.path, "redis"));
    yield* measureRates(redis, scratch.path, wants);
    if (wants("lingering")) yield* measureLingering(redis, scratch.path);
    if (wants("idle")) yield* measureIdleSessions(redis);
    if (wants("backlog")) yield* measureBacklog(redis, scratch.path);
  }
  if (wants("bwrap")) yield* measureBwrapRate(rootfs(), scratch.path);
  if (wants("killed")) yield* measureKilledWorker(rootfs(), scratch.path);
};
