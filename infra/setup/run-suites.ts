import { randomUUID } from "node:crypto";
import { access, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { killAll } from "./kill-processes.ts";
import { processesWithVariable } from "./process-table.ts";
import { runOnTerminal } from "./run-command.ts";
import { waitUntil } from "./wait-until.ts";

/** Every process of a run carries the run's id in it. */
const runVariable = "LONGSHORE_TEST_RUN";
/** How long processes may outlive the runner: the last ones may just be ending. */
const leftTimeoutMs = 5_000;

export interface SuitesOptions {
  readonly cwd: string;
  readonly environment: NodeJS.ProcessEnv;
  /** What the runner writes when it has finished all tests; it is not there yet. */
  readonly reportFile: string;
  /** How long the runner may take to end once it has reported, in milliseconds. @default 30000 */
  readonly endTimeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface SuitesResult {
  /** The runner's exit status, 1 for one that did not end by itself. */
  readonly status: number;
  /** The command lines of what the tests left running. All of it is killed. */
  readonly leftProcesses: readonly string[];
}

/**
 * Runs a test runner on this terminal, and kills what its tests leave behind.
 *
 * A process that a test started and left may hold the runner's channel to its own workers: the runner then
 * has reported, and never ends.
 */
export async function runSuites(command: readonly string[], options: SuitesOptions): Promise<SuitesResult> {
  const run = randomUUID();
  let status: number;
  let leftProcesses: string[] = [];
  try {
    status = await runToItsEnd(command, run, options);
  } finally {
    leftProcesses = await killLeft(run);
  }
  return { status, leftProcesses };
}

async function runToItsEnd(command: readonly string[], run: string, options: SuitesOptions): Promise<number> {
  const ended = new AbortController();
  const hung = new AbortController();
  const watch = abortWhenHung(options, ended.signal, hung);
  try {
    return await runOnTerminal(command, {
      cwd: options.cwd,
      env: { ...options.environment, [runVariable]: run },
      signal: AbortSignal.any([hung.signal, ...(options.signal === undefined ? [] : [options.signal])]),
    });
  } catch (error) {
    if (hung.signal.aborted) {
      return 1;
    }
    throw error;
  } finally {
    ended.abort();
    await watch;
  }
}

async function abortWhenHung(
  options: SuitesOptions,
  ended: AbortSignal,
  hung: AbortController,
): Promise<void> {
  try {
    while (!(await exists(options.reportFile))) {
      await sleep(500, undefined, { signal: ended });
    }
    await sleep(options.endTimeoutMs ?? 30_000, undefined, { signal: ended });
    hung.abort();
  } catch {
    // It ended by itself.
  }
}

async function killLeft(run: string): Promise<string[]> {
  const left = () => processesWithVariable(runVariable, run);
  try {
    await waitUntil(async () => (await left()).length === 0, {
      what: "the tests' processes to end",
      timeoutMs: leftTimeoutMs,
      intervalMs: 200,
    });
    return [];
  } catch {
    const pids = await left();
    const commandLines = await Promise.all(pids.map(commandLine));
    await killAll(left, "the tests' processes to end");
    return commandLines;
  }
}

async function commandLine(pid: number): Promise<string> {
  const words = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  return words.split("\0").join(" ").trim();
}

async function exists(file: string): Promise<boolean> {
  return await access(file).then(
    () => true,
    () => false,
  );
}
