// biome-ignore-all lint/style/noRestrictedImports: the cache is of the host alone: no sandbox sees it

import { randomBytes } from "node:crypto";
import {
  close as closeCallback,
  lstatSync,
  mkdirSync,
  open as openCallback,
  read as readCallback,
  readFile as readFileCallback,
  rename as renameCallback,
  type Stats,
  statfsSync,
  statSync,
  unlinkSync,
  utimes as utimesCallback,
  write as writeCallback,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { errnoOf } from "@longshore/shared";
import { UntrustedCacheError } from "../errors.ts";

// Not `node:fs/promises`: its file handles cost several times what the rest of a small read does.
const open = promisify(openCallback);
const close = promisify(closeCallback);
const read = promisify(readCallback);
const readFile = promisify(readFileCallback);
const write = promisify(writeCallback);
const rename = promisify(renameCallback);
const utimes = promisify(utimesCallback);

const STAGING = "staging";

/** A file of the cache as the file system tells of it. */
export interface CacheFile {
  readonly sizeBytes: number;
  /** When it was used last, to about a minute. */
  readonly usedMs: number;
}

/**
 * The files of a chunk cache: `<2 digits>/<62 digits>` by name, `staging/` for those that are being written. Several
 * processes share one; any of its files, and the whole, may vanish at any moment.
 *
 * A file appears whole under its name, but nothing of it is flushed: after a loss of power there may be anything in it.
 * Whoever reads has to verify.
 */
export class CacheDirectory {
  readonly path: string;

  /**
   * Makes the directory where there is none.
   *
   * @throws UntrustedCacheError where somebody else could write to it; errors of `node:fs`
   */
  constructor(path: string) {
    this.path = path;
    mkdirSync(path, { recursive: true, mode: 0o700 });
    const stats = lstatSync(path);
    if (!stats.isDirectory()) throw new UntrustedCacheError(path, "it is not a directory");
    if (stats.uid !== process.getuid?.()) throw new UntrustedCacheError(path, "it belongs to another user");
    if ((stats.mode & 0o022) !== 0) throw new UntrustedCacheError(path, "other users can write to it");
  }

  /** @returns undefined where there is no such file. Cheap enough (some microseconds) not to be handed to another thread. */
  look(name: string): CacheFile | undefined {
    let stats: Stats | undefined;
    try {
      stats = statSync(this.#pathOf(name), { throwIfNoEntry: false });
    } catch {
      return undefined;
    }
    return stats === undefined ? undefined : { sizeBytes: stats.size, usedMs: stats.mtimeMs };
  }

  /** Fills a buffer with a file. @returns false where the file is shorter or can't be read */
  async readInto(name: string, bytes: Buffer): Promise<boolean> {
    let fd: number;
    try {
      fd = await open(this.#pathOf(name), "r");
    } catch {
      return false;
    }
    try {
      for (let done = 0; done < bytes.length; ) {
        const { bytesRead } = await read(fd, bytes, done, bytes.length - done, done);
        if (bytesRead === 0) return false;
        done += bytesRead;
      }
      return true;
    } catch {
      return false;
    } finally {
      await close(fd);
    }
  }

  /** A whole file; undefined where it can't be read. */
  async readWhole(name: string): Promise<Buffer | undefined> {
    try {
      return await readFile(this.#pathOf(name));
    } catch {
      return undefined;
    }
  }

  /** Writes a file aside and gives it its name. @throws errors of `node:fs`; nothing is left then */
  async store(name: string, bytes: Buffer): Promise<void> {
    const staged = join(this.path, STAGING, randomBytes(12).toString("hex"));
    const fd = await this.#making(join(this.path, STAGING), () => open(staged, "wx", 0o600));
    try {
      try {
        for (let done = 0; done < bytes.length; ) {
          const { bytesWritten } = await write(fd, bytes, done, bytes.length - done, done);
          done += bytesWritten;
        }
      } finally {
        await close(fd);
      }
      await this.#making(join(this.path, name.slice(0, 2)), () => rename(staged, this.#pathOf(name)));
    } catch (error) {
      removeFile(staged);
      throw error;
    }
  }

  /** Marks a file as used. */
  async touch(name: string, nowMs: number): Promise<void> {
    try {
      await utimes(this.#pathOf(name), nowMs / 1000, nowMs / 1000);
    } catch {
      // Gone meanwhile, or not ours to write to: then it is evicted sooner than it should be.
    }
  }

  remove(name: string): void {
    removeFile(this.#pathOf(name));
  }

  /** Free bytes of the file system and its size; undefined where that can't be told. */
  space(): { readonly freeBytes: number; readonly totalBytes: number } | undefined {
    try {
      const { bavail, blocks, bsize } = statfsSync(this.path);
      return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
    } catch {
      return undefined;
    }
  }

  /** Runs an operation in a directory; makes that where it is missing, and tries again. */
  async #making<T>(directory: string, operation: () => Promise<T>): Promise<T> {
    try {
      return await operation();
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      return await operation();
    }
  }

  #pathOf(name: string): string {
    return `${this.path}/${name.slice(0, 2)}/${name.slice(2)}`;
  }
}

function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Gone already, or not ours to remove: what matters is that it is not trusted.
  }
}
