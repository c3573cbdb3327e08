import { Cluster, type Redis, type RedisOptions } from "ioredis";
import { GatheringRedis } from "./gathering-redis.ts";
import { parseRedisUrl, REDIS_URL_FORMS } from "./redis-address.ts";

/** One server (perhaps the primary that sentinels name), or a cluster. */
export type RedisClient = Redis | Cluster;

const CONNECT_TIMEOUT_MS = 5_000;
/**
 * A connection on which an answer is due for so long is dead, whatever its socket says (the other host is gone, Redis
 * is stopped), and is made anew. Above what BullMQ blocks at most, 10 seconds.
 */
const SILENCE_MS = 15_000;
/** How often a connection asks for an answer, in ms: nothing else would tell of one that nobody uses that it is dead. */
const PING_MS = 10_000;
const RETRY = { firstMs: 50, longestMs: 2_000 } as const;
/** A command that came to a node which is gone or not the primary any more looks for the right one so often. */
const REDIRECTIONS = 32;

const retryStrategy = (attempt: number) =>
  Math.min(RETRY.firstMs * 2 ** Math.min(attempt, 6), RETRY.longestMs);

export interface ConnectRedisOptions {
  /** The longest a command may take, in ms. BullMQ's blocking connections can't have one. @default none */
  readonly commandTimeoutMs?: number;
  /**
   * Whether commands wait in memory, without a bound, while Redis is away. Without it they fail at once:
   * for who answers others, and would rather refuse than pile up. @default true
   */
  readonly offlineQueue?: boolean;
  readonly onError: (error: Error) => void;
}

/**
 * A connection that waits for Redis to come back, follows its primary through failovers, and is made anew when it is
 * silent. `maxRetriesPerRequest: null` is what BullMQ's blocking connections require; `commandTimeoutMs` bounds
 * everybody else's wait.
 *
 * @param url one of `REDIS_URL_FORMS`; a `RangeError` where it is not
 */
export function connectRedis(
  url: string,
  { commandTimeoutMs, offlineQueue = true, onError }: ConnectRedisOptions,
): RedisClient {
  const address = parseRedisUrl(url);
  if (address === undefined) throw new RangeError(`not an address of Redis; allowed: ${REDIS_URL_FORMS}`);
  const { username, password, tls, hosts } = address;
  const common = {
    maxRetriesPerRequest: null,
    enableReadyCheck: true,
    connectTimeout: CONNECT_TIMEOUT_MS,
    socketTimeout: SILENCE_MS,
    // A primary that became a replica refuses writes until it is left.
    reconnectOnError: (error) => (error.message.startsWith("READONLY") ? 2 : false),
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls ? { tls: {} } : {}),
    ...(commandTimeoutMs === undefined ? {} : { commandTimeout: commandTimeoutMs }),
  } satisfies RedisOptions;
  const single = { ...common, enableOfflineQueue: offlineQueue, retryStrategy };
  let redis: RedisClient;
  switch (address.kind) {
    case "single":
      redis = new GatheringRedis({ ...single, ...hosts[0], db: address.database });
      break;
    case "sentinel": {
      const { name, database, sentinelUsername, sentinelPassword } = address;
      redis = new GatheringRedis({
        ...single,
        ...{ sentinels: [...hosts], name, db: database, failoverDetector: true },
        ...(tls ? { enableTLSForSentinelMode: true, sentinelTLS: {} } : {}),
        ...(sentinelUsername === undefined ? {} : { sentinelUsername }),
        ...(sentinelPassword === undefined ? {} : { sentinelPassword }),
        sentinelRetryStrategy: retryStrategy,
        sentinelReconnectStrategy: retryStrategy,
      });
      break;
    }
    case "cluster":
      redis = new Cluster([...hosts], {
        redisOptions: common,
        enableOfflineQueue: offlineQueue,
        clusterRetryStrategy: retryStrategy,
        maxRedirections: REDIRECTIONS,
      });
  }
  redis.on("error", onError);
  keepAsking(redis);
  return redis;
}

function keepAsking(redis: RedisClient): void {
  const timer = setInterval(() => {
    // Whether it fails or never comes: the connection's own time-out is what acts on it.
    if (redis.status === "ready") redis.ping().catch(() => undefined);
  }, PING_MS).unref();
  redis.once("end", () => clearInterval(timer));
}
