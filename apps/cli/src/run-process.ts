import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:os";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** The entry of another part of the fleet, by its path in the clone. */
function entry(path: string): string {
  return fileURLToPath(new URL(`../../../${path}`, import.meta.url));
}

/**
 * Runs a part of the fleet as a process of its own, in the foreground: with this one's terminal, its signals
 * passed on. Gives its exit status as a shell would.
 */
async function runInForeground(path: string, args: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, [entry(path), ...args], { stdio: "inherit" });
  // A terminal's Ctrl-C reaches both: passing it on would be a second one, which ends a process at once.
  const fromTerminal = (signal: NodeJS.Signals) => signal === "SIGINT" && process.stdin.isTTY;
  const forward = (signal: NodeJS.Signals) => {
    if (!fromTerminal(signal)) child.kill(signal);
  };
  for (const signal of SIGNALS) process.on(signal, forward);
  try {
    const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
    return code ?? 128 + constants.signals[signal as NodeJS.Signals];
  } finally {
    for (const signal of SIGNALS) process.off(signal, forward);
  }
}

/** `longshore dispatcher` and `longshore worker`. */
export function runApp(name: "dispatcher" | "worker"): Promise<number> {
  return runInForeground(`apps/${name}/src/main.ts`, []);
}

/** `longshore agents try`: a fleet on this machine with one agent, and a talk with it. */
export function runTry(directory: string, text: string | undefined): Promise<number> {
  return runInForeground("infra/setup/run.mjs", [
    "try",
    resolve(directory),
    ...(text === undefined ? [] : [text]),
  ]);
}

/** `longshore dev`: everything on this machine. */
export function runDev(): Promise<number> {
  return runInForeground("infra/setup/run.mjs", ["dev"]);
}
