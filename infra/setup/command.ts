import type { SetupContext } from "./setup-context.ts";

/** What a command is given. */
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
