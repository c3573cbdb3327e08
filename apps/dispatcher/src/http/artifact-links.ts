import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { Clock, RedisClient } from "@longshore/shared";
import { fleetKeys } from "@longshore/shared";
import { z } from "zod";
import { ApiError } from "./api-error.ts";

const KEY_BYTES = 32;
/** Longer ones are no links of ours, and are not looked at. */
const TOKEN_MAX_LENGTH = 4_096;

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
 * key that all dispatchers find in Redis. Whoever takes the key out of Redis ends all links that were made with it.
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

  /** @throws ApiError `ARTIFACT_NOT_FOUND` for what was never signed, `LINK_EXPIRED` */
  async verify(token: string): Promise<LinkedArtifact> {
    const [payload, signature] = token.length > TOKEN_MAX_LENGTH ? [] : token.split(".", 2);
    const key = await this.#redis.getBuffer(fleetKeys.artifactLinks);
    if (payload === undefined || signature === undefined || key === null) throw unknown();
    const given = Buffer.from(signature, "base64url");
    const right = mac(key, payload);
    if (given.length !== right.length || !timingSafeEqual(given, right)) throw unknown();
    const claims = claimsSchema.parse(JSON.parse(Buffer.from(payload, "base64url").toString("utf8")));
    if (this.#clock.now() >= claims.e * 1_000)
      throw new ApiError(410, "LINK_EXPIRED", "The link has expired");
    return { tenant: claims.t, sessionId: claims.s, id: claims.i, name: claims.n, contentType: claims.c };
  }

  /** The key; the first dispatcher that needs one makes it. */
  async #makeKey(): Promise<Buffer> {
    await this.#redis.setnx(fleetKeys.artifactLinks, randomBytes(KEY_BYTES));
    const key = await this.#redis.getBuffer(fleetKeys.artifactLinks);
    // Taken out in this very moment: the next request makes another.
    if (key === null)
      throw new ApiError(503, "BUSY", "The key of links was just changed", { retryAfterSeconds: 1 });
    return key;
  }
}

function mac(key: Buffer, payload: string): Buffer {
  return createHmac("sha256", key).update(`longshore artifact link\n${payload}`).digest();
}

function unknown(): ApiError {
  return new ApiError(404, "ARTIFACT_NOT_FOUND", "There is no such artifact");
}
