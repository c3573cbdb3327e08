import { readFileSync } from "node:fs";
import type { Readable } from "node:stream";
import { type Clock, readClientEnvironment } from "@longshore/shared";
import { ApiClient } from "./api-client.ts";
import { UsageError } from "./errors.ts";
import type { Output } from "./output.ts";
import { StatusLine } from "./status-line.ts";

/** Options that every command has. */
export interface GlobalOptions {
  readonly json?: boolean;
  readonly url?: string;
  readonly key?: string;
  readonly keyFile?: string;
}

/** What commands are given of the world. */
export interface CommandContext {
  readonly output: Output;
  readonly input: Readable & { readonly isTTY?: boolean };
  readonly environment: NodeJS.ProcessEnv;
  readonly clock: Clock;
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
}

/** A client of the dispatcher that options, else the environment name. */
export function openClient(context: CommandContext, options: GlobalOptions): ApiClient {
  const environment = readClientEnvironment(context.environment);
  const url = options.url ?? environment.LONGSHORE_URL;
  if (!/^https?:\/\//.test(url) || !URL.canParse(url))
    throw new UsageError("--url: an http or https address");
  const file = options.keyFile ?? environment.LONGSHORE_KEY_FILE;
  const key = options.key ?? (options.keyFile === undefined ? environment.LONGSHORE_KEY : undefined);
  return new ApiClient({ url, key: key ?? (file === undefined ? undefined : readKey(file)) });
}

/** A status line where somebody watches. */
export function openStatusLine({ output, clock }: CommandContext): StatusLine | undefined {
  if (!output.isTerminal) return undefined;
  return new StatusLine({ write: (text) => output.note(text), columns: () => output.columns, clock });
}

function readKey(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    throw new UsageError(`can't read the key: ${(error as Error).message}`);
  }
}
