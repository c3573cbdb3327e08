import { randomUUID } from "node:crypto";
import {
  type CollectedSession,
  type CollectedVolume,
  type Commit,
  collectSessions,
  collectVolumes,
  type SessionStore,
} from "@longshore/session-store";
import {
  type Configuration,
  fleetKeys,
  type Logger,
  type Metrics,
  type RedisClient,
  retentionOf,
  type StoredBytes,
} from "@longshore/shared";
import { sleep } from "./sleep.ts";

/** How long a collecting dispatcher may be silent before another one begins, in ms. */
const LEASE_MS = 60_000;
/** How often it is looked whether a collection is due, in ms, unless `dispatcher.collect` is shorter. */
const LOOK_MS = 60_000;

export interface CollectorOptions {
  readonly configuration: () => Configuration;
  readonly store: SessionStore;
  readonly stored: StoredBytes;
  readonly redis: RedisClient;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/**
 * Collects the garbage of all sessions and volumes every `dispatcher.collect`, on one of the dispatchers.
 *
 * idle → collecting, when none was finished within the period (a key in Redis that expires says so), and no other one is at
 * it (a second key, renewed while it works). → idle, when all sessions were looked at, whether or not each could be
 * collected; → idle at once, when the dispatcher stops or lost the key: another one begins anew. Two at once do no harm,
 * only the work twice.
 */
export class Collector {
  readonly #options: CollectorOptions;
  readonly #closing = new AbortController();
  #running: Promise<void> | undefined;

  constructor(options: CollectorOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { configuration, log } = this.#options;
    for (;;) {
      const periodMs = configuration().dispatcher.collect;
      if (periodMs > 0) {
        try {
          await this.#collectIfDue(periodMs);
        } catch (error) {
          if (!signal.aborted) log.warn({ err: error }, "collection interrupted");
        }
      }
      if (!(await sleep(periodMs > 0 ? Math.min(periodMs, LOOK_MS) : LOOK_MS, signal))) return;
    }
  }

  async #collectIfDue(periodMs: number): Promise<void> {
    const { redis, log } = this.#options;
    if ((await redis.exists(fleetKeys.collected)) === 1) return;
    const nonce = randomUUID();
    if ((await redis.set(fleetKeys.collecting, nonce, "PX", LEASE_MS, "NX")) === null) {
      log.debug("another dispatcher collects garbage");
      return;
    }
    const lost = new AbortController();
    const renewal = setInterval(() => void this.#renew(nonce, lost), LEASE_MS / 3);
    let total: object;
    try {
      total = await this.#collect(AbortSignal.any([this.#closing.signal, lost.signal]));
      await redis.set(fleetKeys.collected, new Date().toISOString(), "PX", periodMs);
    } finally {
      clearInterval(renewal);
      if ((await redis.get(fleetKeys.collecting)) === nonce) await redis.del(fleetKeys.collecting);
    }
    log.info(total, "garbage collected");
  }

  async #renew(nonce: string, lost: AbortController): Promise<void> {
    const { redis, log } = this.#options;
    try {
      if ((await redis.get(fleetKeys.collecting)) === nonce)
        await redis.pexpire(fleetKeys.collecting, LEASE_MS);
      else lost.abort(new Error("another dispatcher collects"));
    } catch (error) {
      log.debug({ err: error }, "collection not renewed");
    }
  }

  /** Gives what it came to, for the log. */
  async #collect(signal: AbortSignal): Promise<object> {
    const { configuration, store, stored, metrics, log } = this.#options;
    let needed: number | undefined;
    const total = { sessions: 0, volumes: 0, failed: 0, objects: 0, bytes: 0 };
    const count = (collected: CollectedSession | CollectedVolume, tenant: string) => {
      total["sessionId" in collected ? "sessions" : "volumes"] += 1;
      if ("error" in collected) {
        const { error, ...which } = collected;
        total.failed += 1;
        needed = undefined;
        metrics.collections.inc({ outcome: "failed" });
        log.warn({ err: error, ...which, tenant }, "not collected");
        return;
      }
      const { objects, bytes } = collected.report.deleted;
      if (needed !== undefined) needed += collected.report.neededBytes;
      metrics.collections.inc({ outcome: "collected" });
      metrics.collectedObjects.inc(objects);
      metrics.collectedBytes.inc(bytes);
      total.objects += objects;
      total.bytes += bytes;
    };
    for (const tenant of Object.keys(configuration().tenants)) {
      needed = 0;
      const options = {
        retentionOf: (newest: Commit | undefined) => retentionOf(configuration(), tenant, newest?.note),
        signal,
      };
      for await (const session of collectSessions(store, tenant, options)) count(session, tenant);
      for await (const volume of collectVolumes(store, tenant, options)) count(volume, tenant);
      // Of one that could not be looked at nobody knows what it takes.
      if (needed !== undefined) await stored.set(tenant, needed);
    }
    return total;
  }
}
