import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Cluster, Redis } from "ioredis";

const INCLUDE = /^--- @include "([\w-]+)"$/gm;

function source(name: string): string {
  return readFileSync(new URL(`./scripts/${name}.lua`, import.meta.url), "utf8");
}

/** The text of a script with each of its includes put in once. */
function assemble(name: string): string {
  const body = source(name);
  const includes = [...new Set([...body.matchAll(INCLUDE)].map((match) => match[1] as string))];
  return [...includes.map((include) => source(`includes/${include}`)), body.replace(INCLUDE, "")].join("\n");
}

type Argument = string | number;

/** One of the `.lua` files beside this one: its header says what it takes, does and returns. */
export class Script {
  readonly #text: string;
  readonly #sha1: string;

  constructor(name: string) {
    this.#text = assemble(name);
    this.#sha1 = createHash("sha1").update(this.#text).digest("hex");
  }

  /** Runs it by hash, and by text where this Redis does not know it (restarted, flushed, another node). */
  async run(redis: Redis | Cluster, keys: readonly string[], args: readonly Argument[]): Promise<unknown> {
    try {
      return await redis.evalsha(this.#sha1, keys.length, ...keys, ...args);
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith("NOSCRIPT"))) throw error;
      return await redis.eval(this.#text, keys.length, ...keys, ...args);
    }
  }
}
