import { createHash, timingSafeEqual } from "node:crypto";
import type { Configuration, KeyDefinition, Scope } from "@longshore/shared";

/** Who a request comes from. */
export interface Identity {
  /** The key's name in the configuration; what logs have instead of the key. */
  readonly keyId: string;
  /** Undefined: an operator of the fleet, who belongs to no tenant. */
  readonly tenant: string | undefined;
  readonly scopes: ReadonlySet<Scope>;
}

interface KnownKey {
  readonly digest: Buffer;
  readonly identity: Identity;
}

/** Longer ones are no key of ours, and are not hashed. */
const KEY_MAX_LENGTH = 1_024;

function knownKeys({ tenants, operators }: Configuration): KnownKey[] {
  const known = (tenant: string | undefined) => (key: KeyDefinition) => ({
    digest: Buffer.from(key.hash.slice("sha256:".length), "hex"),
    identity: { keyId: key.id, tenant, scopes: new Set(key.scopes) },
  });
  return [
    ...Object.entries(tenants).flatMap(([tenant, { keys }]) => keys.map(known(tenant))),
    ...operators.map(known(undefined)),
  ];
}

/** Tells whose key a request bears. */
export class Authenticator {
  readonly #configuration: () => Configuration;
  #of: Configuration | undefined;
  #keys: readonly KnownKey[] = [];

  constructor(configuration: () => Configuration) {
    this.#configuration = configuration;
  }

  /** By `Authorization: Bearer <key>`. */
  bearer(authorization: string | undefined): Identity | undefined {
    const key = /^Bearer +(\S+)$/i.exec(authorization ?? "")?.[1];
    return key === undefined ? undefined : this.#identify(key);
  }

  /** By the key as password of `Authorization: Basic`, whatever the user's name: all that a browser can send. */
  basic(authorization: string | undefined): Identity | undefined {
    const encoded = /^Basic +(\S+)$/i.exec(authorization ?? "")?.[1];
    if (encoded === undefined) return undefined;
    const decoded = Buffer.from(encoded, "base64").toString("utf8");
    const colon = decoded.indexOf(":");
    return colon === -1 ? undefined : this.#identify(decoded.slice(colon + 1));
  }

  /** Compares with every known key, so that the time it takes says nothing about which came close. */
  #identify(key: string): Identity | undefined {
    if (key.length > KEY_MAX_LENGTH) return undefined;
    const configuration = this.#configuration();
    if (configuration !== this.#of) {
      this.#keys = knownKeys(configuration);
      this.#of = configuration;
    }
    const digest = createHash("sha256").update(key).digest();
    let found: Identity | undefined;
    for (const known of this.#keys) if (timingSafeEqual(known.digest, digest)) found = known.identity;
    return found;
  }
}
