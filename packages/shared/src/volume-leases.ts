import { volumeKeys } from "./keys.ts";
import type { RedisClient } from "./redis.ts";
import { Script } from "./script.ts";
import { FencedError, IDLE_SESSION_TTL_MS } from "./session-state.ts";

const scripts = {
  take: new Script("take-volume"),
  renew: new Script("renew-volume"),
  release: new Script("release-volume"),
} as const;

/** A volume of a tenant; nothing is left to fill in in its name. */
export interface VolumeName {
  readonly tenant: string;
  readonly volume: string;
}

export type TakenVolume =
  | { readonly taken: true; readonly epoch: number }
  | { readonly taken: false; readonly forMs: number };

/**
 * Who writes a volume.
 *
 * free → (`take`) held, kept by `renew` → free, by `release`, which tells who waited, or in silence.
 */
export class VolumeLeases {
  readonly #redis: RedisClient;

  constructor(redis: RedisClient) {
    this.#redis = redis;
  }

  /**
   * Takes a volume. Idempotent for who has it, but for the epoch.
   *
   * @param who.waits the session that waits for it where it is another one's, and is to be told by `release`
   * @param ttlMs how long the holder may be silent
   * @param leastEpoch of the lease: above that of the newest commit, where that is known
   */
  async take(
    { tenant, volume }: VolumeName,
    who: { readonly nonce: string; readonly waits?: string | undefined },
    ttlMs: number,
    leastEpoch = 0,
  ): Promise<TakenVolume> {
    const { lease, waiting } = volumeKeys(tenant, volume);
    const args = [who.nonce, who.waits ?? "", ttlMs, leastEpoch];
    const [code, value] = (await scripts.take.run(this.#redis, [lease, waiting], args)) as [number, number];
    return code === 1 ? { taken: true, epoch: value } : { taken: false, forMs: value };
  }

  /** Gives how many sessions wait for it. @throws FencedError where it is held no more */
  async renew({ tenant, volume }: VolumeName, nonce: string, ttlMs: number): Promise<number> {
    const { lease, waiting } = volumeKeys(tenant, volume);
    const waits = (await scripts.renew.run(this.#redis, [lease, waiting], [nonce, ttlMs])) as number;
    if (waits < 0) throw new FencedError("renew a volume");
    return waits;
  }

  /** Gives it back; gives the sessions that waited for it. None where it is held no more. */
  async release({ tenant, volume }: VolumeName, nonce: string): Promise<readonly string[]> {
    const { lease, waiting } = volumeKeys(tenant, volume);
    const args = [nonce, IDLE_SESSION_TTL_MS];
    return (await scripts.release.run(this.#redis, [lease, waiting], args)) as string[];
  }
}
