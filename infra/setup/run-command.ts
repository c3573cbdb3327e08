import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { SetupError } from "./errors.ts";

/** How much of a captured output is kept, in characters: its end, where the error is. */
const keptOutput = 64 * 1024;
/** How long an aborted command may take to end by SIGTERM before it is killed, in milliseconds. */
const abortGraceMs = 10_000;

export interface CommandOptions {
  readonly cwd?: string;
  /** @default the environment of this process */
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** Ends the command (SIGTERM, SIGKILL ten seconds later). */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs a command on this terminal and gives its exit status, 128 + n for one ended by signal n.
 *
 * @throws {SetupError} `SETUP_COMMAND_FAILED` when it can't be started; the signal's reason when aborted.
 */
export async function runOnTerminal(
  command: readonly string[],
  options: CommandOptions = {},
): Promise<number> {
  const child = start(command, options, "inherit");
  return await ended(child, command, options.signal);
}

/** What a captured command left: its exit status and the end of its merged output. */
export interface CommandResult {
  readonly status: number;
  readonly output: string;
}

/** Like {@link runOnTerminal}, with stdout and stderr merged and kept (the last 64 KiB) and no stdin. */
export async function capture(
  command: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const child = start(command, options, "pipe");
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-keptOutput);
    });
  }
  const status = await ended(child, command, options.signal);
  return { status, output };
}

/**
 * Runs a command that has to succeed and gives its output.
 *
 * @throws {SetupError} `SETUP_COMMAND_FAILED` with the end of the output when it does not.
 */
export async function run(command: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { status, output } = await capture(command, options);
  if (status !== 0) {
    throw new SetupError(
      "SETUP_COMMAND_FAILED",
      `\`${command.join(" ")}\` ended with status ${status}:\n${output.trimEnd().split("\n").slice(-20).join("\n")}`,
    );
  }
  return output;
}

function start(
  command: readonly string[],
  options: CommandOptions,
  output: "inherit" | "pipe",
): ChildProcess {
  options.signal?.throwIfAborted();
  const [program = "", ...args] = command;
  return spawn(program, args, {
    cwd: options.cwd,
    env: options.env,
    stdio: [output === "inherit" ? "inherit" : "ignore", output, output],
  });
}

async function ended(
  child: ChildProcess,
  command: readonly string[],
  signal: AbortSignal | undefined,
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.once("error", (cause) =>
    reject(new SetupError("SETUP_COMMAND_FAILED", `can't run \`${command.join(" ")}\``, { cause })),
  );
  child.once("close", (code, name) => resolve(code ?? 128 + signalNumber(name)));
  let killTimer: NodeJS.Timeout | undefined;
  const abort = (): void => {
    child.kill("SIGTERM");
    killTimer = setTimeout(() => child.kill("SIGKILL"), abortGraceMs);
  };
  signal?.addEventListener("abort", abort, { once: true });
  try {
    const status = await promise;
    signal?.throwIfAborted();
    return status;
  } finally {
    clearTimeout(killTimer);
    signal?.removeEventListener("abort", abort);
  }
}

function signalNumber(name: NodeJS.Signals | null): number {
  return name === null ? 0 : constants.signals[name];
}
