import { randomBytes } from "node:crypto";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Redis } from "../../infra/setup/redis.ts";

/**
 * Copies a Redis' data as it is now; gives how to go back to it.
 *
 * @param directory where its own directory `redis` is
 */
export async function copyRedis(redis: Redis, directory: string): Promise<() => Promise<void>> {
  const data = join(directory, "redis", "appendonlydir");
  const copy = join(directory, `redis-copy-${randomBytes(4).toString("hex")}`);
  await cp(data, copy, { recursive: true });
  return async () => {
    await redis.kill();
    await rm(data, { recursive: true });
    await cp(copy, data, { recursive: true });
    await rm(copy, { recursive: true });
    await redis.restart();
  };
}
