import type { Clock } from "@longshore/shared";
import type { Backend } from "./backend/backend.ts";
import type { ChunkCache } from "./cache/chunk-cache.ts";
import type { SharedCache } from "./shared-cache.ts";
import type { TreeThreads } from "./threads/tree-threads.ts";

/** What the parts of a store share. */
export interface StoreContext {
  readonly backend: Backend;
  readonly threads: TreeThreads;
  /** Frames that small files share, unpacked, of the files that were read last one by one; each use is verified. */
  readonly sharedFrames: SharedCache<Buffer>;
  /** What this host has fetched or made before, on its disk. */
  readonly cache: ChunkCache | undefined;
  readonly clock: Clock;
  /** Longest an activation may live, in ms: what nobody has referred to for so long may be deleted. */
  readonly longestActivationMs: number;
  /** From 0 to below 1; for waits and names that need not be secret. */
  readonly random: () => number;
}
