import type { DirectoryDescriptor } from "@longshore/shared/session-tree";
import { type BytePath, nameOfPath, parentOfPath } from "../format/byte-path.ts";

/** Directories held open at once. */
const OPEN_MAX = 64;

/**
 * Opens directories of a tree by path, each as a chain of descriptors from the root (I8), and keeps the last ones open:
 * files come in the order of their paths, so the next one mostly lies where the last one did.
 */
export class DirectoryCache {
  readonly #root: DirectoryDescriptor;
  readonly #open = new Map<BytePath, DirectoryDescriptor>();

  constructor(root: DirectoryDescriptor) {
    this.#root = root;
  }

  /** The directory a path lies in. Valid until the next call. */
  parentOf(path: BytePath): DirectoryDescriptor {
    return this.#directory(parentOfPath(path));
  }

  #directory(path: BytePath): DirectoryDescriptor {
    if (path === "") return this.#root;
    const known = this.#open.get(path);
    if (known !== undefined) {
      // To the end of the Map's order: the first one is the one used longest ago.
      this.#open.delete(path);
      this.#open.set(path, known);
      return known;
    }
    const opened = this.#directory(parentOfPath(path)).openDirectoryOfBytes(nameOfPath(path));
    this.#open.set(path, opened);
    if (this.#open.size > OPEN_MAX) {
      const [oldest] = this.#open;
      if (oldest !== undefined) {
        this.#open.delete(oldest[0]);
        oldest[1].close();
      }
    }
    return opened;
  }

  [Symbol.dispose](): void {
    for (const directory of this.#open.values()) directory.close();
    this.#open.clear();
  }
}
