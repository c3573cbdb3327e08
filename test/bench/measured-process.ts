import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";

/** How often the high-water mark is read, in ms; what a process gains after the last time is missed. */
const POLL_MS = 20;
/** How much of what a process says is kept, in characters: the end. */
const KEPT_OUTPUT = 64 * 1024;

export interface ProcessFigures {
  /** From before its start until after its end. */
  readonly milliseconds: number;
  /** The most memory it had at any time (`VmHWM`), in bytes. */
  readonly peakBytes: number;
  /** The end of its standard output. */
  readonly output: string;
}

/**
 * Runs a program to its end.
 *
 * @param environment the whole of it: nothing is inherited
 * @throws when it can't be started or fails, with the end of what it said
 */
export async function runMeasured(
  command: readonly string[],
  environment: NodeJS.ProcessEnv,
): Promise<ProcessFigures> {
  const [program = "", ...args] = command;
  const start = performance.now();
  const child = spawn(program, args, { env: environment, stdio: ["ignore", "pipe", "pipe"] });
  const kept = { output: "", errors: "" };
  const keep = (name: keyof typeof kept) => (text: string) => {
    kept[name] = (kept[name] + text).slice(-KEPT_OUTPUT);
  };
  child.stdout.setEncoding("utf8").on("data", keep("output"));
  child.stderr.setEncoding("utf8").on("data", keep("errors"));
  let peakBytes = 0;
  const poll = setInterval(() => {
    peakBytes = Math.max(peakBytes, highWaterMark(child.pid));
  }, POLL_MS);
  try {
    const [status] = (await once(child, "close")) as [number | null];
    const milliseconds = performance.now() - start;
    if (status !== 0) throw new Error(`\`${command.join(" ")}\` failed (${status}): ${kept.errors}`);
    return { milliseconds, peakBytes, output: kept.output };
  } finally {
    clearInterval(poll);
  }
}

/** In bytes; 0 for a process that is gone. */
function highWaterMark(pid: number | undefined): number {
  try {
    const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    return Number(kibibytes ?? 0) * 1024;
  } catch {
    return 0;
  }
}
