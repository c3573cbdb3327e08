// biome-ignore-all lint/style/noRestrictedImports: the cache is of the host alone: no sandbox sees it

import { statSync } from "node:fs";
import { appendFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** A byte of the file stands for this many bytes of the cache. */
const UNIT_BYTES = 64 * 1024;

/**
 * About how much a chunk cache holds, as all processes that share it know it: the length of the file `usage`. Whoever
 * stores something makes it longer by appending, which the system does in one step; whoever has looked at all files
 * puts a right one in its place. What is appended between the look and that is forgotten until the next one.
 */
export class CacheUsage {
  readonly #path: string;
  /** Stored by this process, and less than a unit. */
  #rest = 0;

  constructor(directory: string) {
    this.#path = join(directory, "usage");
  }

  /** In bytes; undefined where nobody knows. */
  read(): number | undefined {
    try {
      const size = statSync(this.#path, { throwIfNoEntry: false })?.size;
      return size === undefined ? undefined : size * UNIT_BYTES + this.#rest;
    } catch {
      return undefined;
    }
  }

  async add(bytes: number): Promise<void> {
    const total = this.#rest + bytes;
    const units = Math.floor(total / UNIT_BYTES);
    this.#rest = total - units * UNIT_BYTES;
    if (units > 0) await appendFile(this.#path, Buffer.alloc(units), { mode: 0o600 });
  }

  /** @param name a random one */
  async set(bytes: number, name: string): Promise<void> {
    const aside = `${this.#path}-${name}`;
    try {
      await writeFile(aside, "", { mode: 0o600, flag: "wx" });
      await truncate(aside, Math.ceil(bytes / UNIT_BYTES));
      await rename(aside, this.#path);
      this.#rest = 0;
    } catch (error) {
      await rm(aside, { force: true });
      throw error;
    }
  }
}
