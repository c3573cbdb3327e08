import type { Redis } from "ioredis";
import { UnsuitableRedisError } from "./errors.ts";

/**
 * Checks that Redis keeps what it is given: under any other eviction policy than `noeviction` it drops accepted
 * messages when it is full, instead of refusing new ones. Throws `UnsuitableRedisError`, and Redis' own errors.
 */
export async function checkRedis(redis: Redis): Promise<void> {
  const memory = await redis.info("memory");
  const policy = /^maxmemory_policy:(\S+)/m.exec(memory)?.[1];
  if (policy === "noeviction") return;
  throw new UnsuitableRedisError(
    policy === undefined
      ? "Redis does not say its eviction policy (INFO memory); it has to be noeviction"
      : `Redis' eviction policy is ${policy}: it would drop accepted messages. Set maxmemory-policy noeviction`,
  );
}
