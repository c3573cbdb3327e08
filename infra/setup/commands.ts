import type { Command } from "./command.ts";

/** What `run.mjs` can be told to do, loaded when it is told to. */
export const commands: ReadonlyMap<string, () => Promise<Command>> = new Map([
  ["test", async () => (await import("./test.ts")).test],
  ["chaos", async () => (await import("./chaos.ts")).chaos],
  ["podman", async () => (await import("./podman.ts")).podman],
  ["fuzz", async () => (await import("./fuzz.ts")).fuzz],
  ["bench", async () => (await import("./bench.ts")).bench],
  ["demo", async () => (await import("./demo.ts")).demo],
  ["try", async () => (await import("./try.ts")).tryAgent],
  ["dev", async () => (await import("./dev.ts")).dev],
]);
