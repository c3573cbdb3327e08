import {
  connectRedis,
  type Durability,
  describeDurability,
  judgeDurability,
  type RedisFacts,
  readRedisFacts,
  redisHosts,
} from "@longshore/shared";
import { type Finding, failed, messageOf, ok, warning } from "./check.ts";

/** The first with what the scripts use of streams. */
const OLDEST: readonly [major: number, minor: number] = [6, 2];
const COMMAND_TIMEOUT_MS = 5_000;

/** Whether Redis answers, what it promises of accepted messages, and whether it may throw them away. */
export async function checkRedis(url: string, durability: Durability): Promise<Finding[]> {
  let trouble = "";
  const redis = connectRedis(url, {
    commandTimeoutMs: COMMAND_TIMEOUT_MS,
    onError: (error) => {
      trouble = messageOf(error);
    },
  });
  try {
    const primaries = await readRedisFacts(redis);
    return [checkVersion(primaries), checkDurability(durability, primaries), checkEviction(primaries)];
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

function checkVersion(primaries: readonly RedisFacts[]): Finding {
  const versions = [...new Set(primaries.map(({ version = "of unknown version" }) => version))];
  const detail = `version ${versions.join(", ")}${primaries.length > 1 ? `; ${primaries.length} primaries` : ""}`;
  return versions.every(isNewEnough)
    ? ok("redis", detail)
    : failed("redis", detail, `use Redis ${OLDEST.join(".")} or newer, or Valkey`);
}

function isNewEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1]);
}

/** What an accepted message survives, as far as the servers say. */
function checkDurability(durability: Durability, primaries: readonly RedisFacts[]): Finding {
  const check = "redis durability";
  const { problems, missing } = judgeDurability(durability, primaries);
  const detail = `"${durability}": ${describeDurability(durability, primaries)}`;
  if (problems.length > 0) return failed(check, `"${durability}" can't be given`, problems.join("; "));
  if (missing.length > 0) return warning(check, `"${durability}": ${missing.join("; ")}`, "start it");
  return primaries.some(({ flush }) => flush === "no")
    ? warning(check, detail, "set `appendfsync everysec` (or `always`)")
    : ok(check, detail);
}

function checkEviction(primaries: readonly RedisFacts[]): Finding {
  const policies = [...new Set(primaries.map(({ evictionPolicy = "unknown" }) => evictionPolicy))];
  return policies.every((policy) => policy === "noeviction")
    ? ok("redis eviction", "noeviction")
    : failed(
        "redis eviction",
        `maxmemory-policy is ${policies.join(", ")}: Redis may throw accepted messages away`,
        "set `maxmemory-policy noeviction`",
      );
}
