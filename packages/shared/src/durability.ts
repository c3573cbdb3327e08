import type { RedisFacts } from "./redis-facts.ts";

/**
 * What an accepted message survives beside a restart of Redis: `local`, nothing more (up to a second is lost with the
 * host's power); `fsync`: the loss of the host's power; `replica`: the loss of the host.
 */
export const durabilities = ["local", "fsync", "replica"] as const;
export type Durability = (typeof durabilities)[number];

/** How the fleet comes by a durability. */
export interface Guarantee {
  /** What has to be asked of Redis before a message is accepted; `nothing` where it does that by itself. */
  readonly ask: "nothing" | "WAITAOF" | "WAIT";
  /** Why Redis as it is can't give it; empty where it can. */
  readonly problems: readonly string[];
  /** What is missing now and may come by itself: until then, messages are refused. */
  readonly missing: readonly string[];
}

/** Whether each of the primaries can give a durability, as they say of themselves. */
export function judgeDurability(wanted: Durability, primaries: readonly RedisFacts[]): Guarantee {
  const problems = new Set<string>();
  const missing = new Set<string>();
  let ask: Guarantee["ask"] = wanted === "replica" ? "WAIT" : "nothing";
  for (const { isAppendOnly, flush, pausesFlush, canWaitForFile, replicas } of primaries) {
    if (!isAppendOnly) problems.add("it keeps no append-only file (appendonly yes)");
    if (wanted === "replica" && replicas === 0) missing.add("no replica is connected");
    if (wanted !== "fsync" || (flush === "always" && pausesFlush === false)) continue;
    // What one of them needs is asked of all.
    if (canWaitForFile) ask = "WAITAOF";
    else if (flush !== "always")
      problems.add("it does not say that it flushes each write (appendfsync always)");
    else problems.add("it does not flush while it rewrites its file (no-appendfsync-on-rewrite no)");
  }
  return { ask, problems: [...problems], missing: [...missing] };
}

/** What an accepted message survives on these primaries with the durability that is configured, for people. */
export function describeDurability(wanted: Durability, primaries: readonly RedisFacts[]): string {
  const { ask } = judgeDurability(wanted, primaries);
  const always = primaries.every(({ flush, pausesFlush }) => flush === "always" && pausesFlush === false);
  const unknown = primaries.some(({ flush }) => flush === undefined);
  const replicas = Math.min(...primaries.map((facts) => facts.replicas));
  const power =
    always || ask === "WAITAOF"
      ? "and the loss of power"
      : unknown
        ? "(this server does not tell how often its file is flushed)"
        : primaries.some(({ flush }) => flush === "no")
          ? "; the loss of power takes about 30 seconds"
          : "; the loss of power takes up to a second";
  const host =
    wanted === "replica"
      ? "; it is on a replica before it is accepted"
      : replicas > 0
        ? `; ${replicas} ${replicas === 1 ? "replica" : "replicas"}, which may lag`
        : "; no replica, so not the loss of its disk";
  return `an accepted message survives a restart of Redis ${power}${host}`.replace(" ;", ";");
}
