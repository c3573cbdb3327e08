import { randomUUID } from "node:crypto";
import { type Backend, openBackend, SessionStore } from "@longshore/session-store";
import type { Clock, Environment } from "@longshore/shared";
import { type Finding, failed, messageOf, ok, warning } from "./check.ts";

const TIMEOUT_MS = 30_000;
const ROUNDS = 5;
/** A commit is a few requests one after another: above this, a turn is noticeably slower by them. */
const SLOW_MS = 250;

/** Whether the object store keeps the promises that commits rest on, and how fast it answers. */
export async function checkStore(environment: Environment, clock: Clock): Promise<Finding[]> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  let backend: Backend | undefined;
  try {
    backend = openBackend(environment.OBJECT_STORE_URL, {
      ...(environment.S3_ENDPOINT === undefined ? {} : { endpoint: environment.S3_ENDPOINT }),
      forcePathStyle: environment.S3_FORCE_PATH_STYLE,
      region: environment.AWS_REGION,
    });
    await new SessionStore({ backend }).probe(signal);
    const works = ok(
      "object store",
      `${backend.url}: reads, writes, lists, deletes, and refuses to overwrite`,
    );
    return [works, await measure(backend, clock, signal)];
  } catch (error) {
    return [
      failed(
        "object store",
        messageOf(error),
        "check OBJECT_STORE_URL, S3_ENDPOINT, the AWS_* variables, and that the bucket (or directory) exists and may be written",
      ),
    ];
  } finally {
    backend?.close();
  }
}

async function measure(backend: Backend, clock: Clock, signal: AbortSignal): Promise<Finding> {
  const prefix = `probe/${randomUUID()}`;
  const keys = Array.from({ length: ROUNDS }, (_, round) => `${prefix}-${round}`);
  const content = Buffer.alloc(1_024, "x");
  try {
    const writes = await timesOf(keys, clock, (key) => backend.putIfAbsent(key, content, { signal }));
    const reads = await timesOf(keys, clock, (key) => backend.get(key, { signal }));
    const slower = Math.max(writes, reads);
    const detail = `1 KiB written in ${writes.toFixed(1)} ms, read in ${reads.toFixed(1)} ms (median of ${ROUNDS})`;
    return slower <= SLOW_MS
      ? ok("object store latency", detail)
      : warning("object store latency", detail, "use a bucket in the workers' region");
  } finally {
    await backend.delete(keys, { signal });
  }
}

/** The median, in milliseconds. */
async function timesOf(
  keys: readonly string[],
  clock: Clock,
  request: (key: string) => Promise<unknown>,
): Promise<number> {
  const times: number[] = [];
  for (const key of keys) {
    const start = clock.monotonic();
    await request(key);
    times.push(clock.monotonic() - start);
  }
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0;
}
