import {
  type Durability,
  type Guarantee,
  judgeDurability,
  type RedisClient,
  type RedisFacts,
  readRedisFacts,
} from "@longshore/shared";
import { UnsuitableRedisError } from "./errors.ts";

/**
 * Checks that Redis keeps what it is given: under any other eviction policy than `noeviction` it drops accepted
 * messages when it is full, instead of refusing new ones; and more than `local` durability it can give or not. Gives
 * what each primary says of itself; throws `UnsuitableRedisError`, and Redis' own errors.
 */
export async function checkRedis(
  redis: RedisClient,
  durability: Durability,
): Promise<{ readonly facts: readonly RedisFacts[]; readonly guarantee: Guarantee }> {
  const facts = await readRedisFacts(redis);
  for (const { evictionPolicy } of facts) {
    if (evictionPolicy === "noeviction") continue;
    throw new UnsuitableRedisError(
      evictionPolicy === undefined
        ? "Redis does not say its eviction policy (INFO memory); it has to be noeviction"
        : `Redis' eviction policy is ${evictionPolicy}: it would drop accepted messages. Set maxmemory-policy noeviction`,
    );
  }
  const guarantee = judgeDurability(durability, facts);
  if (durability !== "local" && guarantee.problems.length > 0)
    throw new UnsuitableRedisError(
      `Redis can't give the durability "${durability}": ${guarantee.problems.join("; ")}`,
    );
  return { facts, guarantee };
}
