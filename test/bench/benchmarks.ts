import type { Benchmark } from "./row.ts";

/** What `npm run bench` can measure, by name; loaded when it is asked for. */
export const benchmarks: ReadonlyMap<string, () => Promise<Benchmark>> = new Map([
  ["store", async () => (await import("./store.ts")).benchmark],
  ["queue", async () => (await import("./queue.ts")).benchmark],
  ["scale", async () => (await import("./scale.ts")).benchmark],
  ["sandbox", async () => (await import("./sandbox.ts")).benchmark],
  ["agent", async () => (await import("./agent.ts")).benchmark],
  ["turn", async () => (await import("./turn.ts")).benchmark],
]);

/** Parts of benchmarks that can be measured alone. */
export const benchmarkParts: ReadonlyMap<string, readonly string[]> = new Map([
  ["store", ["gibibyte", "small", "many"]],
  ["sandbox", ["unread", "boot", "many"]],
  ["queue", ["accept", "answer", "hot", "lingering", "idle", "backlog", "bwrap", "killed"]],
  ["scale", ["1", "2", "4", "killed"]],
]);

/** How to ask for one. */
export const benchUsage = [
  `usage: npm run bench -- ${[...benchmarks.keys()].join("|")} [PART...] [--json|--markdown]`,
  ...Array.from(benchmarkParts, ([name, parts]) => `parts of ${name}: ${parts.join(", ")}`),
].join("\n");
