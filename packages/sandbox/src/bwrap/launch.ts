import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import type { Readable, Writable } from "node:stream";
import { MAILBOX_PROGRAM, RUN_COMMAND } from "../helper/helper-paths.ts";
import { HOST_PROGRAM } from "../host-program.ts";
import { resolveLimits } from "../limits.ts";
import type { SandboxSpec } from "../sandbox.ts";
import { bwrapOptions, type HelperMounts } from "./bwrap-options.ts";
import type { SandboxCgroup } from "./cgroup.ts";
import type { HostTools } from "./host-tools.ts";

/** Environment variable on the host's side of a sandbox (never inside) that tells the reaper whose it is. */
export const MARKER_VARIABLE = "LONGSHORE_SANDBOX";

const SECCOMP = 3;
const STATUS = 4;
const OPTIONS = 5;
export interface Launch {
  readonly spec: SandboxSpec;
  /** The agent's program and its arguments. */
  readonly command: readonly string[];
  readonly helper: HelperMounts;
  readonly rootfs: string;
  readonly marker: string;
  readonly tools: HostTools;
  /** Path of the seccomp filter. */
  readonly seccompPath: string;
  readonly cgroup: SandboxCgroup | undefined;
}

/** A started bubblewrap: the process on the host, which watches the one inside. */
export interface Launched {
  readonly child: ChildProcess;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** JSON lines of bubblewrap about the process inside. */
  readonly status: Readable;
}

/**
 * Starts bubblewrap for a sandbox: in its control groups, as its user, under its limits.
 * @throws SandboxSpecError when the root file system is none; the child's "error" event tells of the rest
 */
export function launch(request: Launch): Launched {
  const { spec, tools, cgroup } = request;
  const options = bwrapOptions(spec, request.rootfs, request.helper, { seccomp: SECCOMP, status: STATUS });
  // Opened anew for each sandbox: the offset of an open file is shared with everybody who has it.
  const seccomp = openSync(request.seccompPath, "r");
  try {
    const child = spawn(
      HOST_PROGRAM,
      [
        "launch",
        // Before anything else, so that no process of the sandbox is ever outside.
        ...(cgroup?.joinFiles ?? []).flatMap((file) => ["group", file]),
        ...userWords(spec),
        ...limitWords(spec, cgroup),
        "--",
        ...[tools.bwrap, "--args", String(OPTIONS), "--", ...RUN_COMMAND],
        ...[...(spec.mailbox ? [MAILBOX_PROGRAM] : []), ...request.command],
      ],
      {
        cwd: "/",
        env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", [MARKER_VARIABLE]: request.marker },
        stdio: ["pipe", "pipe", "pipe", seccomp, "pipe", "pipe"],
        // A terminal's or a supervisor's signal to the worker's group is the worker's to handle.
        detached: true,
      },
    );
    const stdio: readonly (Readable | Writable | null | undefined)[] = child.stdio;
    const sink = stdio[OPTIONS] as Writable;
    // A child that failed before it read its options tells so by its exit.
    sink.on("error", () => undefined);
    sink.end(options.map((option) => `${option}\0`).join(""));
    return {
      child,
      stdin: child.stdin as Writable,
      stdout: child.stdout as Readable,
      stderr: child.stderr as Readable,
      status: stdio[STATUS] as Readable,
    };
  } finally {
    closeSync(seccomp);
  }
}

/** Never bubblewrap as root: inside, its user would be the host's root for every file that is shown. */
function userWords({ user }: SandboxSpec): string[] {
  return process.getuid?.() === 0 ? ["user", String(user.uid), String(user.gid)] : [];
}

function limitWords(spec: SandboxSpec, cgroup: SandboxCgroup | undefined): string[] {
  const limits = resolveLimits(spec.limits);
  const { memory = false, pids = false } = cgroup?.abilities ?? {};
  const words = {
    nofile: limits.openFiles,
    fsize: limits.fileBytes,
    core: 0,
    // Per process and per user, where the kernel counts for no group. Not the address space, which
    // JavaScript and Go programs reserve without using it.
    ...(memory ? {} : { data: limits.memoryBytes }),
    ...(pids ? {} : { nproc: limits.pids }),
  };
  return Object.entries(words).flatMap(([name, value]) => ["limit", name, String(value)]);
}
