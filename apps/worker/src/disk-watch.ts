// biome-ignore lint/style/noRestrictedImports: of the slot itself, which is the host's, it asks for the file system
import { statfs } from "node:fs/promises";
import type { DiskQuota } from "@longshore/sandbox";
import { measureTree, type TreeSize } from "@longshore/session-store";
import type { Clock } from "@longshore/shared";

/** How often it looks, in ms: what a disk takes in meanwhile is how far a quota may be exceeded. */
const LOOK_MS = 1_000;
/** How long it trusts that what others removed did not hide what was written here, in ms. */
const MEASURE_MS = 30_000;

/**
 * Keeps directories that agents write to a quota, where their file systems do not: it looks at what they take.
 *
 * A look asks the file system for what is free, which costs nothing. The directories are measured where it has become so much
 * less since the last time that one of them could be full, and now and then.
 */
export class DiskWatch {
  readonly #directories: readonly string[];
  readonly #most: DiskQuota;
  readonly #clock: Pick<Clock, "monotonic">;
  readonly #onFailure: (error: unknown) => void;
  readonly #stopped = new AbortController();
  #looking: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #measured: { readonly at: number; readonly used: TreeSize; readonly left: TreeSize } | undefined;

  /**
   * @param options.most of each of the directories, which are in one file system
   * @param options.onFailure told once, of a `QuotaExceededError` or of why it can't look any more; it has stopped then
   */
  constructor(options: {
    readonly directories: readonly string[];
    readonly most: DiskQuota;
    readonly clock: Pick<Clock, "monotonic">;
    readonly onFailure: (error: unknown) => void;
  }) {
    this.#directories = options.directories;
    this.#most = options.most;
    this.#clock = options.clock;
    this.#onFailure = options.onFailure;
    this.#wait();
  }

  /** Resolves when it does not look any more. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    clearTimeout(this.#timer);
    await this.#looking;
  }

  #wait(): void {
    if (this.#stopped.signal.aborted) return;
    this.#timer = setTimeout(() => {
      this.#looking = this.#look().then(
        () => this.#wait(),
        (error: unknown) => {
          if (!this.#stopped.signal.aborted) this.#onFailure(error);
        },
      );
    }, LOOK_MS);
  }

  async #look(): Promise<void> {
    const used = await usedOf(this.#directories[0] as string);
    const at = this.#clock.monotonic();
    const before = this.#measured;
    const isSure =
      before !== undefined &&
      at - before.at < MEASURE_MS &&
      used.bytes - before.used.bytes < before.left.bytes &&
      used.files - before.used.files < before.left.files;
    if (isSure) return;
    const left = { bytes: this.#most.bytes, files: this.#most.files };
    for (const directory of this.#directories) {
      const size = await measureTree(directory, this.#most, this.#stopped.signal);
      left.bytes = Math.min(left.bytes, this.#most.bytes - size.bytes);
      left.files = Math.min(left.files, this.#most.files - size.files);
    }
    this.#measured = { at, used, left };
  }
}

/** What is used of the file system that a directory is in. */
async function usedOf(directory: string): Promise<TreeSize> {
  const { blocks, bfree, bsize, files, ffree } = await statfs(directory);
  return { bytes: (blocks - bfree) * bsize, files: files - ffree };
}
