import type { History } from "../history.ts";

/** Something that must never be. */
export interface Violation {
  /** The check that found it. */
  readonly check: string;
  readonly conversation?: string;
  readonly what: string;
}

/** Reads a run's history; gives what is wrong with it. */
export type Check = (history: History) => Violation[];
