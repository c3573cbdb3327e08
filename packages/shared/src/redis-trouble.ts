/** Errors of a Redis that is away, starting, failing over or out of memory, as ioredis words them. */
const CLIENT_TROUBLE =
  /^(?:Connection is closed|Command timed out|Stream isn't writeable|Socket timeout|Reached the max retries|None of startup nodes|Failed to refresh slots|Too many Cluster redirections|Cluster isn't ready|All sentinels are unreachable)/;
const SERVER_TROUBLE =
  /^(?:LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|OOM|MISCONF|NOREPLICAS|UNBLOCKED)\b/;
const SOCKET_TROUBLE = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENOTFOUND",
]);

/** Whether an error says that Redis can't serve now: the same call may succeed later. */
export function isRedisTrouble(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (CLIENT_TROUBLE.test(error.message) || SERVER_TROUBLE.test(error.message)) return true;
  return "code" in error && typeof error.code === "string" && SOCKET_TROUBLE.has(error.code);
}

/** Whether an error says that Redis has reached its `maxmemory`: it takes nothing more until some is free. */
export function isRedisFull(error: unknown): boolean {
  return error instanceof Error && /^OOM\b/.test(error.message);
}
