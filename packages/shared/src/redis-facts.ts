import { Cluster, type Redis } from "ioredis";
import type { RedisClient } from "./redis.ts";

/** What one server that holds data says of itself. */
export interface RedisFacts {
  readonly version: string | undefined;
  /** Undefined where it does not say. */
  readonly evictionPolicy: string | undefined;
  readonly isAppendOnly: boolean;
  /** `appendfsync`; undefined where the server forbids to ask, as managed ones do. */
  readonly flush: string | undefined;
  /** `no-appendfsync-on-rewrite`: nothing is flushed while the file is rewritten. Undefined as above. */
  readonly pausesFlush: boolean | undefined;
  /** Whether it can be asked to wait until its file is flushed (WAITAOF, since Redis 7.2). */
  readonly canWaitForFile: boolean;
  /** Replicas that are connected. */
  readonly replicas: number;
}

/** Asks each primary; throws Redis' own errors. */
export async function readRedisFacts(redis: RedisClient): Promise<RedisFacts[]> {
  if (!(redis instanceof Cluster)) return [await readFacts(redis)];
  // Before the first command the nodes are not known.
  await redis.ping();
  return await Promise.all(redis.nodes("master").map(readFacts));
}

async function readFacts(redis: Redis): Promise<RedisFacts> {
  const info = parseInfo(await redis.info());
  const pauses = await setting(redis, "no-appendfsync-on-rewrite");
  return {
    version: info.get("redis_version"),
    evictionPolicy: info.get("maxmemory_policy"),
    isAppendOnly: info.get("aof_enabled") === "1",
    flush: await setting(redis, "appendfsync"),
    pausesFlush: pauses === undefined ? undefined : pauses === "yes",
    canWaitForFile: await knows(redis, "waitaof"),
    replicas: Number(info.get("connected_slaves") ?? 0),
  };
}

async function setting(redis: Redis, name: string): Promise<string | undefined> {
  try {
    const answer = (await redis.config("GET", name)) as string[];
    return answer[1];
  } catch (error) {
    if (isRefusal(error)) return undefined;
    throw error;
  }
}

async function knows(redis: Redis, command: string): Promise<boolean> {
  try {
    const answer = (await redis.command("INFO", command)) as unknown[];
    return answer[0] !== null && answer[0] !== undefined;
  } catch (error) {
    if (isRefusal(error)) return false;
    throw error;
  }
}

/** A server that knows no such command, or does not let this user. */
function isRefusal(error: unknown): boolean {
  return error instanceof Error && /^(ERR|NOPERM)\b/.test(error.message);
}

function parseInfo(text: string): ReadonlyMap<string, string> {
  return new Map(
    text
      .split("\r\n")
      .filter((line) => line.includes(":"))
      .map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)]),
  );
}
