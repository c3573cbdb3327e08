import { Redis } from "ioredis";

/**
 * A connection that waits for Redis to come back. `maxRetriesPerRequest: null` is what BullMQ's blocking
 * connections require; `commandTimeoutMs` bounds everybody else's wait.
 */
export function connectRedis(
  url: string,
  {
    commandTimeoutMs,
    offlineQueue = true,
    onError,
  }: {
    readonly commandTimeoutMs?: number;
    /**
     * Whether commands wait in memory, without a bound, while Redis is away. Without it they fail at once:
     * for who answers others, and would rather refuse than pile up. @default true
     */
    readonly offlineQueue?: boolean;
    readonly onError: (error: Error) => void;
  },
): Redis {
  const redis = new Redis(url, {
    maxRetriesPerRequest: null,
    enableReadyCheck: true,
    enableOfflineQueue: offlineQueue,
    retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 6), 2_000),
    ...(commandTimeoutMs === undefined ? {} : { commandTimeout: commandTimeoutMs }),
  });
  redis.on("error", onError);
  return redis;
}
