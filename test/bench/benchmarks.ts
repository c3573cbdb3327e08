import type { Benchmark } from "./row.ts";

/** What `npm run bench` can measure, by name; loaded when it is asked for. */
export const benchmarks: ReadonlyMap<string, () => Promise<Benchmark>> = new Map([
  ["store", async () => (await import("./store.ts")).benchmark],
  ["queue", async () => (await import("./queue.ts")).benchmark],
  ["scale", async () => (await import("./scale.ts")).benchmark],
  ["turn", async () => (await import("./turn.ts")).benchmark],
]);

/** How to ask for one. */
export const benchUsage = `usage: npm run bench -- ${[...benchmarks.keys()].join("|")} [--json|--markdown]`;
