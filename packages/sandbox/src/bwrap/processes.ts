import { readlinkSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { constants } from "node:os";
import { MARKER_VARIABLE } from "./launch.ts";
import { parseSandboxName, runKeyOf } from "./sandbox-name.ts";

/** In the kernel's masks of pending signals. */
const SIGSTOP_BIT = 1n << BigInt(constants.signals.SIGSTOP - 1);

/** More at once gain nothing: Node reads files with four threads. */
const EXAMINED_AT_ONCE = 16;

/** A process of a sandbox, by an id that the kernel may give to another one once it is gone. */
export interface SandboxProcess {
  readonly pid: number;
  /** In clock ticks since the boot: tells a process from a later one with the same id. */
  readonly startTime: string;
  readonly worker: string;
  readonly nonce: string;
  /** Whether it is in the sandbox's process namespace; else it is bubblewrap's watcher outside. */
  readonly isInside: boolean;
}

/**
 * Finds the processes of a run directory's bubblewrap sandboxes: bubblewrap itself by the marker in the
 * environment it was started with; the first process inside by its parent, which is bubblewrap; all others
 * by that first process' namespace, which they can't leave. Containers that show slots of the same run
 * directory have no such first process and are not found.
 *
 * Of a bubblewrap that was killed the first process inside may be left for ever: bubblewrap clones it and
 * only then has it die with its parent. It has the marker too, until it becomes another program.
 *
 * A hostile program can give itself any marker and thereby at most have its own sandbox killed; inside it
 * is no first process.
 */
export async function findSandboxProcesses(runDirectory: string): Promise<SandboxProcess[]> {
  const runKey = runKeyOf(runDirectory);
  const ownNamespace = readlinkSync("/proc/self/ns/pid");
  const pids = (await readdir("/proc")).map(Number).filter((pid) => pid > 0 && pid !== process.pid);
  const examined: Examined[] = [];
  for (let start = 0; start < pids.length; start += EXAMINED_AT_ONCE) {
    const some = pids.slice(start, start + EXAMINED_AT_ONCE);
    for (const one of await Promise.all(some.map((pid) => examine(pid, runKey, ownNamespace))))
      if (one) examined.push(one);
  }
  const watchers = new Map<number, Owner>();
  for (const { pid, namespace, owner } of examined) {
    if (owner && namespace === ownNamespace) watchers.set(pid, owner);
  }
  const owners = new Map<string, Owner>();
  for (const { namespace, parentOfFirst, owner: byMarker } of examined) {
    const owner = watchers.get(parentOfFirst ?? 0) ?? byMarker;
    if (owner && namespace !== ownNamespace) owners.set(namespace, owner);
  }
  const found: SandboxProcess[] = [];
  for (const candidate of examined) {
    const isInside = candidate.namespace !== ownNamespace;
    const owner = isInside ? owners.get(candidate.namespace) : candidate.owner;
    const startTime = owner && (await startTimeOfSame(candidate, runKey, ownNamespace));
    if (startTime) found.push({ pid: candidate.pid, startTime, ...owner, isInside });
  }
  return found;
}

/** Sends a signal unless the process is gone or its id belongs to another one by now. */
export async function signalProcess(target: SandboxProcess, signal: NodeJS.Signals): Promise<void> {
  try {
    if ((await startTimeOf(target.pid)) === target.startTime) process.kill(target.pid, signal);
  } catch {
    // Gone.
  }
}

/**
 * Whether the process runs none of its program's code until it is continued (or it is gone): it is stopped,
 * or waits in the kernel with the stop pending. A parent waits so for a child of `vfork` that was stopped
 * before its `exec`.
 */
export async function isStopped(pid: number): Promise<boolean> {
  try {
    const status = await readFile(`/proc/${pid}/status`, "latin1");
    const state = /^State:\s+(\S)/m.exec(status)?.[1] ?? "X";
    if (state !== "D") return "TtZX".includes(state);
    const pending = [...status.matchAll(/^(?:SigPnd|ShdPnd):\s+([0-9a-f]+)$/gm)];
    return pending.some(([, mask]) => (BigInt(`0x${mask}`) & SIGSTOP_BIT) !== 0n);
  } catch {
    return true;
  }
}

interface Owner {
  readonly worker: string;
  readonly nonce: string;
}

interface Examined {
  readonly pid: number;
  readonly namespace: string;
  /** Whose it is by its environment, looked at outside and of the first process of another namespace. */
  readonly owner: Owner | undefined;
  /** Of the first process of another namespace: its parent, as this process' namespace numbers it. */
  readonly parentOfFirst: number | undefined;
}

async function examine(pid: number, runKey: string, ownNamespace: string): Promise<Examined | undefined> {
  try {
    // At once, since it never blocks and there are hundreds of them.
    const namespace = readlinkSync(`/proc/${pid}/ns/pid`);
    if (namespace === ownNamespace) {
      return { pid, namespace, owner: await ownerByMarker(pid, runKey), parentOfFirst: undefined };
    }
    const parent = await parentOfFirst(pid);
    const owner = parent === undefined ? undefined : await ownerByMarker(pid, runKey);
    return { pid, namespace, owner, parentOfFirst: parent };
  } catch {
    // It ended meanwhile, or belongs to somebody else.
    return undefined;
  }
}

/** The start time, read before a second look that says that it is still the process that was examined. */
async function startTimeOfSame(
  examined: Examined,
  runKey: string,
  ownNamespace: string,
): Promise<string | undefined> {
  const startTime = await startTimeOf(examined.pid).catch(() => undefined);
  const again = await examine(examined.pid, runKey, ownNamespace);
  // The first process inside loses the marker when it becomes the program.
  const isSame =
    again?.namespace === examined.namespace &&
    (again.namespace !== ownNamespace || again.owner?.nonce === examined.owner?.nonce);
  return isSame ? startTime : undefined;
}

async function ownerByMarker(pid: number, runKey: string): Promise<Owner | undefined> {
  const environment = await readFile(`/proc/${pid}/environ`, "latin1");
  const variable = environment.split("\0").find((entry) => entry.startsWith(`${MARKER_VARIABLE}=`));
  const name = variable && parseSandboxName(variable.slice(MARKER_VARIABLE.length + 1));
  return name && name.runKey === runKey ? { worker: name.worker, nonce: name.nonce } : undefined;
}

async function parentOfFirst(pid: number): Promise<number | undefined> {
  const status = await readFile(`/proc/${pid}/status`, "latin1");
  if (!/^NSpid:.*\t1$/m.test(status)) return undefined;
  return Number(/^PPid:\s+(\d+)$/m.exec(status)?.[1]);
}

async function startTimeOf(pid: number): Promise<string | undefined> {
  // The program's name before it, in parentheses, may hold blanks and parentheses itself.
  return lastPart(await readFile(`/proc/${pid}/stat`, "latin1")).split(" ")[20];
}

function lastPart(stat: string): string {
  return stat.slice(stat.lastIndexOf(")"));
}
