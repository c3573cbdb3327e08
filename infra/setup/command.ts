import type { SetupContext } from "./setup-context.ts";

/** What a command of {@link commands} is given. */
export interface CommandContext extends SetupContext {
  /** The words after its name. */
  readonly args: readonly string[];
  readonly signal: AbortSignal;
}

/**
 * A command: gives its exit status. It ends what it started before it settles, also when it throws or its
 * signal is aborted.
 */
export type Command = (context: CommandContext) => Promise<number>;

/** What `run.mjs` can be told to do, loaded when it is told to. */
export const commands: ReadonlyMap<string, () => Promise<Command>> = new Map([
  ["test", async () => (await import("./test.ts")).test],
  ["chaos", async () => (await import("./chaos.ts")).chaos],
  ["bench", async () => (await import("./bench.ts")).bench],
  ["demo", async () => (await import("./demo.ts")).demo],
  ["dev", async () => (await import("./dev.ts")).dev],
]);
