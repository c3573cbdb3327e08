import { type Durability, LongshoreError, type NotReady, type RedisClient } from "@longshore/shared";
import { checkRedis } from "./redis-suitability.ts";

const TIMEOUT_MS = 2_000;

/**
 * Why the dispatcher can't accept messages now. The object store was probed at the start and is not asked
 * again: messages without attachments don't need it.
 */
export async function checkReadiness(
  redis: RedisClient,
  durability: Durability,
  closing: AbortSignal,
): Promise<readonly NotReady[]> {
  if (closing.aborted) return ["the dispatcher is shutting down"];
  const silence = new Promise<readonly NotReady[]>((resolve) => {
    setTimeout(resolve, TIMEOUT_MS, [`Redis did not answer within ${TIMEOUT_MS} ms`]).unref();
  });
  const answer = checkRedis(redis, durability).then(
    ({ guarantee }) => guarantee.missing.map((what) => `durability "${durability}": ${what}`),
    // A client's error may name addresses; what the operator needs is which part it is.
    (error: unknown) => [error instanceof LongshoreError ? error.message : "Redis is not reachable"],
  );
  return await Promise.race([answer, silence]);
}
