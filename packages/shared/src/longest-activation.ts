import type { Configuration } from "./configuration-schema.ts";

const LEAST_MS = 24 * 3_600_000;

/**
 * The longest that an activation of any agent may be at work, in ms: its life, and a turn that began at its end.
 * What the object store holds and nothing names yet may belong to one, so garbage collection has to leave it for
 * so long. At least a day.
 */
export function longestActivationMs({ agents }: Configuration): number {
  return Math.max(LEAST_MS, ...Object.values(agents).map(({ longest, limits }) => longest + limits.turn));
}
