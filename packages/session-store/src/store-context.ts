import type { Clock } from "@longshore/shared";
import type { Backend } from "./backend/backend.ts";
import type { TreeThreads } from "./threads/tree-threads.ts";

/** What the parts of a store share. */
export interface StoreContext {
  readonly backend: Backend;
  readonly threads: TreeThreads;
  readonly clock: Clock;
  /** From 0 to below 1; for waits and names that need not be secret. */
  readonly random: () => number;
}
