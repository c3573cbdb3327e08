import { readdir, readFile, readlink } from "node:fs/promises";
import { MARKER_VARIABLE } from "./launch.ts";
import { locate, parseMountInfo } from "./mount-info.ts";
import { parseSandboxName, runKeyOf } from "./sandbox-name.ts";

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
 * Finds the processes of a run directory's sandboxes by what no program in a sandbox can change: the mount
 * of its slot, and the environment of bubblewrap itself on the host's side.
 */
export async function findSandboxProcesses(runDirectory: string): Promise<SandboxProcess[]> {
  const ownMounts = parseMountInfo(await readFile("/proc/self/mountinfo", "utf8"));
  const context: Context = {
    runKey: runKeyOf(runDirectory),
    workers: locate(ownMounts, `${runDirectory}/workers`),
    mountNamespace: await readlink("/proc/self/ns/mnt"),
    processNamespace: await readlink("/proc/self/ns/pid"),
  };
  const found: SandboxProcess[] = [];
  for (const entry of await readdir("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    const sandboxProcess = await examine(pid, context);
    if (sandboxProcess) found.push(sandboxProcess);
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

/** Whether every thread of the process is stopped (or it is gone). */
export async function isStopped(pid: number): Promise<boolean> {
  try {
    const state = /\) (\S)/.exec(lastPart(await readFile(`/proc/${pid}/stat`, "latin1")))?.[1];
    return state === "T" || state === "t" || state === "Z" || state === "X";
  } catch {
    return true;
  }
}

interface Context {
  readonly runKey: string;
  readonly workers: { readonly device: string; readonly path: string } | undefined;
  readonly mountNamespace: string;
  readonly processNamespace: string;
}

async function examine(pid: number, context: Context): Promise<SandboxProcess | undefined> {
  try {
    const startTime = await startTimeOf(pid);
    const owner = (await ownerByMarker(pid, context)) ?? (await ownerByMount(pid, context));
    if (owner === undefined || startTime === undefined) return undefined;
    const isInside = (await readlink(`/proc/${pid}/ns/pid`)) !== context.processNamespace;
    return { pid, startTime, ...owner, isInside };
  } catch {
    // It ended meanwhile, or belongs to somebody else.
    return undefined;
  }
}

async function ownerByMarker(pid: number, context: Context) {
  const environment = await readFile(`/proc/${pid}/environ`, "latin1");
  const variable = environment.split("\0").find((entry) => entry.startsWith(`${MARKER_VARIABLE}=`));
  const name = variable && parseSandboxName(variable.slice(MARKER_VARIABLE.length + 1));
  return name && name.runKey === context.runKey ? { worker: name.worker, nonce: name.nonce } : undefined;
}

async function ownerByMount(pid: number, context: Context) {
  const { workers } = context;
  if (workers === undefined || (await readlink(`/proc/${pid}/ns/mnt`)) === context.mountNamespace)
    return undefined;
  const mounts = parseMountInfo(await readFile(`/proc/${pid}/mountinfo`, "utf8"));
  const session = mounts.find((mount) => mount.mountPoint === "/session" && mount.device === workers.device);
  if (!session?.root.startsWith(`${workers.path}/`)) return undefined;
  const [worker, slots, nonce, ...rest] = session.root.slice(workers.path.length + 1).split("/");
  return worker && slots === "slots" && nonce && rest.length === 0 ? { worker, nonce } : undefined;
}

async function startTimeOf(pid: number): Promise<string | undefined> {
  // The program's name before it, in parentheses, may hold blanks and parentheses itself.
  return lastPart(await readFile(`/proc/${pid}/stat`, "latin1")).split(" ")[20];
}

function lastPart(stat: string): string {
  return stat.slice(stat.lastIndexOf(")"));
}
