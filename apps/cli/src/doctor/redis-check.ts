import { connectRedis, type RedisClient, redisHosts } from "@longshore/shared";
import { type Finding, failed, messageOf, ok, warning } from "./check.ts";

/** The first with what the scripts use of streams. */
const OLDEST: readonly [major: number, minor: number] = [6, 2];
const COMMAND_TIMEOUT_MS = 5_000;

/** Whether Redis answers, what it promises of accepted messages, and whether it may throw them away. */
export async function checkRedis(url: string): Promise<Finding[]> {
  let trouble = "";
  const redis = connectRedis(url, {
    commandTimeoutMs: COMMAND_TIMEOUT_MS,
    onError: (error) => {
      trouble = messageOf(error);
    },
  });
  try {
    const info = parseInfo(await redis.info());
    return [checkVersion(info), await checkDurability(redis, info), checkEviction(info)];
  } catch (error) {
    return [
      failed(
        "redis",
        `${redisHosts(url)} does not answer: ${trouble || messageOf(error)}`,
        "start Redis, or name another by REDIS_URL",
      ),
    ];
  } finally {
    redis.disconnect();
  }
}

type Info = ReadonlyMap<string, string>;

function checkVersion(info: Info): Finding {
  const version = info.get("redis_version") ?? "of unknown version";
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])
    ? ok("redis", `version ${version}`)
    : failed("redis", `version ${version}`, `use Redis ${OLDEST.join(".")} or newer, or Valkey`);
}

/** What an accepted message survives, as far as this server says. */
async function checkDurability(redis: RedisClient, info: Info): Promise<Finding> {
  const check = "redis durability";
  const replicas = Number(info.get("connected_slaves") ?? 0);
  const copies =
    replicas > 0
      ? `${replicas} ${replicas === 1 ? "replica" : "replicas"}, which may lag`
      : "no replica, so not the loss of its disk";
  if (info.get("aof_enabled") !== "1") {
    return failed(
      check,
      `no append-only file: accepted messages are lost when Redis restarts (${copies})`,
      "set `appendonly yes`",
    );
  }
  const flush = await flushPolicy(redis);
  switch (flush) {
    case "always":
      return ok(check, `"fsync": an accepted message survives a crash of the host; ${copies}`);
    case "no":
      return warning(
        check,
        `an accepted message survives a restart of Redis; a power cut loses about 30 seconds; ${copies}`,
        "set `appendfsync everysec` (or `always`)",
      );
    case "everysec":
      return ok(
        check,
        `"local": an accepted message survives a restart of Redis; a power cut loses up to a second; ${copies}`,
      );
    default:
      return ok(check, `append-only file on; this server does not tell how often it is flushed; ${copies}`);
  }
}

/** Undefined where the server forbids to ask, as managed ones do. */
async function flushPolicy(redis: RedisClient): Promise<string | undefined> {
  try {
    const answer = (await redis.config("GET", "appendfsync")) as string[];
    return answer[1];
  } catch {
    return undefined;
  }
}

function checkEviction(info: Info): Finding {
  const policy = info.get("maxmemory_policy") ?? "unknown";
  return policy === "noeviction"
    ? ok("redis eviction", "noeviction")
    : failed(
        "redis eviction",
        `maxmemory-policy is ${policy}: RedisClient may throw accepted messages away`,
        "set `maxmemory-policy noeviction`",
      );
}

function parseInfo(text: string): Info {
  return new Map(
    text
      .split("\r\n")
      .filter((line) => line.includes(":"))
      .map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)]),
  );
}
