import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import type { Clock } from "./clock.ts";
import { fleetKeys } from "./keys.ts";
import type { RedisClient } from "./redis.ts";

const KEY_BYTES = 32;
/** Longer ones are no links of ours, and are not looked at. */
const TOKEN_MAX_LENGTH = 4_096;
/** How often the key is looked for that is there unless somebody takes it out just then. */
const KEY_ATTEMPTS = 3;

/** What a link opens, and until when. Names are short: they are part of an address. */
const claimsSchema = z.strictObject({
  t: z.string(),
  s: z.string(),
  i: z.string(),
  n: z.string(),
  c: z.string(),
  /** Seconds since the epoch. */
  e: z.int(),
});

export interface LinkedArtifact {
  readonly tenant: string;
  readonly sessionId: string;
  readonly id: string;
  readonly name: string;
  readonly contentType: string;
}

/**
 * Links with which anyone may read one artifact for a while: what it is and until when, signed (HMAC SHA-256) with a
 * key that the fleet's processes find in Redis. Whoever takes the key out of Redis ends all links that were made with it.
 */
export class ArtifactLinks {
  readonly #redis: RedisClient;
  readonly #clock: Clock;

  constructor(redis: RedisClient, clock: Clock) {
    this.#redis = redis;
    this.#clock = clock;
  }

  /** @param expiresSeconds how long the link works */
  async sign(
    artifact: LinkedArtifact,
    expiresSeconds: number,
  ): Promise<{ readonly token: string; readonly expiresAt: Date }> {
    const expires = Math.ceil(this.#clock.now() / 1_000) + expiresSeconds;
    const { tenant, sessionId, id, name, contentType } = artifact;
    const claims: z.output<typeof claimsSchema> = {
      t: tenant,
      s: sessionId,
      i: id,
      n: name,
      c: contentType,
      e: expires,
    };
    const payload = Buffer.from(JSON.stringify(claims)).toString("base64url");
    const token = `${payload}.${mac(await this.#makeKey(), payload).toString("base64url")}`;
    return { token, expiresAt: new Date(expires * 1_000) };
  }

  /** What a link opens; `unknown` for what was never signed. */
  async verify(token: string): Promise<LinkedArtifact | "unknown" | "expired"> {
    const [payload, signature] = token.length > TOKEN_MAX_LENGTH ? [] : token.split(".", 2);
    const key = await this.#redis.getBuffer(fleetKeys.artifactLinks);
    if (payload === undefined || signature === undefined || key === null) return "unknown";
    const given = Buffer.from(signature, "base64url");
    const right = mac(key, payload);
    if (given.length !== right.length || !timingSafeEqual(given, right)) return "unknown";
    const claims = claimsSchema.parse(JSON.parse(Buffer.from(payload, "base64url").toString("utf8")));
    if (this.#clock.now() >= claims.e * 1_000) return "expired";
    return { tenant: claims.t, sessionId: claims.s, id: claims.i, name: claims.n, contentType: claims.c };
  }

  /** The key; whoever needs one first makes it. */
  async #makeKey(): Promise<Buffer> {
    for (let attempt = 1; attempt <= KEY_ATTEMPTS; attempt++) {
      await this.#redis.setnx(fleetKeys.artifactLinks, randomBytes(KEY_BYTES));
      const key = await this.#redis.getBuffer(fleetKeys.artifactLinks);
      if (key !== null) return key;
    }
    throw new Error("the key of links is taken out of Redis again and again");
  }
}

function mac(key: Buffer, payload: string): Buffer {
  return createHmac("sha256", key).update(`longshore artifact link\n${payload}`).digest();
}
