import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable } from "node:stream";
import { setTimeout as waitFor } from "node:timers/promises";

export interface CommandOptions {
  /** Working directory, absolute. */
  readonly cwd: string;
  /** Aborting it ends the command's process group: SIGTERM, then SIGKILL after `killAfterMs`. */
  readonly signal: AbortSignal;
  /**
   * Called with each piece of output, standard error included, in the order of writing. The next piece is
   * read only after it resolves, so that a slow client slows the command and not this process's memory.
   */
  readonly onOutput: (text: string) => Promise<void>;
  /** @default 2000 */
  readonly killAfterMs?: number;
}

export interface CommandResult {
  /** Null where a signal ended the shell. */
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

/**
 * After the shell's exit its output is complete when the pipe ends. Where a background process holds the
 * pipe open it never does: then it is complete when the pipe is empty, or after this much more text, which
 * is above what pipe and stream can have held at the exit.
 */
const MAX_CHARACTERS_AFTER_EXIT = 1024 * 1024;

/** How long a pipe that something in the background holds open may be silent after the exit, in ms. */
const SILENCE_AFTER_EXIT_MS = 250;

/**
 * Runs one line of shell in a process group of its own. Ends with the shell, not with what the shell left
 * in the background: that goes on, as it would under a real agent, and its later output is dropped.
 *
 * @throws where the shell can't be started, and what `onOutput` throws (the group is ended then).
 */
export async function runCommand(command: string, options: CommandOptions): Promise<CommandResult> {
  options.signal.throwIfAborted();
  // The redirection is done inside, so that both streams share one pipe and keep their order.
  const child = spawn("/bin/sh", ["-c", `exec 2>&1\n${command}`], {
    cwd: options.cwd,
    detached: true,
    stdio: ["ignore", "pipe", "ignore"],
  });
  const exited = once(child, "exit") as Promise<[number | null, NodeJS.Signals | null]>;
  await once(child, "spawn");
  const group = -(child.pid as number);
  let killTimer: NodeJS.Timeout | undefined;
  const stop = (): void => {
    signalGroup(group, "SIGTERM");
    killTimer ??= setTimeout(signalGroup, options.killAfterMs ?? 2000, group, "SIGKILL");
  };
  options.signal.addEventListener("abort", stop, { once: true });
  try {
    await forward(child.stdout.setEncoding("utf8"), exited, options.onOutput);
    const [exitCode, signal] = await exited;
    return { exitCode, signal };
  } catch (error) {
    signalGroup(group, "SIGKILL");
    throw error;
  } finally {
    clearTimeout(killTimer);
    options.signal.removeEventListener("abort", stop);
    child.stdout.destroy();
    if (options.signal.aborted) {
      // The shell obeyed SIGTERM; what it started may not have.
      signalGroup(group, "SIGKILL");
    }
  }
}

/** Forwards piece by piece until the output is complete (see {@link MAX_CHARACTERS_AFTER_EXIT}). */
async function forward(
  output: Readable,
  exited: Promise<unknown>,
  onOutput: CommandOptions["onOutput"],
): Promise<void> {
  // Without a listener Node sets the stream flowing when the child exits, and what was not read is lost.
  output.on("readable", () => undefined);
  let running = true;
  const exit = exited.then(() => {
    running = false;
  });
  let afterExit = 0;
  while (afterExit <= MAX_CHARACTERS_AFTER_EXIT) {
    const text: string | null = output.read();
    if (text !== null) {
      await onOutput(text);
      afterExit += running ? 0 : text.length;
    } else if (output.readableEnded) {
      return;
    } else if (running) {
      await outputOr(output, exit);
    } else {
      // What the pipe held at the exit comes soon, and then its end; unless something holds it open.
      const waiting = new AbortController();
      const silence = waitFor(SILENCE_AFTER_EXIT_MS, true, { signal: waiting.signal }).catch(() => false);
      await outputOr(output, silence);
      waiting.abort();
      if ((await silence) && output.readableLength === 0) {
        return;
      }
    }
  }
}

/** Waits for output, the end of output, or something else, whichever comes first. */
async function outputOr(output: Readable, other: Promise<unknown>): Promise<void> {
  const waiting = new AbortController();
  const { signal } = waiting;
  try {
    await Promise.race([once(output, "readable", { signal }), once(output, "end", { signal }), other]);
  } finally {
    waiting.abort();
  }
}

/** A group that is gone already is what was wanted. */
function signalGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(group, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") {
      throw error;
    }
  }
}
