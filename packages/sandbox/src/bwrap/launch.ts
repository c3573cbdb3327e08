import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import type { Readable, Writable } from "node:stream";
import { RuntimeUnavailableError } from "../errors.ts";
import { MAILBOX_PROGRAM, RUN_COMMAND } from "../helper/helper-paths.ts";
import { resolveLimits } from "../limits.ts";
import type { SandboxSpec } from "../sandbox.ts";
import { bwrapOptions, type HelperMounts } from "./bwrap-options.ts";
import type { SandboxCgroup } from "./cgroup.ts";
import type { HostTools } from "./host-tools.ts";
import { inheritedDescriptors } from "./inherited-descriptors.ts";

/** Environment variable on the host's side of a sandbox (never inside) that tells the reaper whose it is. */
export const MARKER_VARIABLE = "LONGSHORE_SANDBOX";

const SECCOMP = 3;
const STATUS = 4;
const OPTIONS = 5;
const FIRST_UNUSED = 6;
/** A POSIX shell closes no descriptor of two digits. */
const HIGHEST_OF_POSIX_SHELL = 9;

/** Sandboxes die before the worker and its neighbours when the host itself runs out of memory. */
const OOM_SCORE_ADJUSTMENT = 500;

/**
 * Enters the control groups before anything else runs, so that no process of the sandbox is ever outside;
 * closes what it inherited; then becomes the command behind `--`.
 */
function script(descriptors: readonly number[]): string {
  return [
    'while [ "$1" != -- ]; do echo 0 > "$1" || exit 125; shift; done',
    "shift",
    `echo ${OOM_SCORE_ADJUSTMENT} > /proc/self/oom_score_adj`,
    ...descriptors.map((descriptor) => `exec ${descriptor}>&-`),
    'exec "$@"',
  ].join("\n");
}

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
 * @throws SandboxSpecError when the root file system is none, RuntimeUnavailableError when descriptors of the
 * worker can't be kept out; the child's "error" event tells of the rest
 */
export function launch(request: Launch): Launched {
  const { spec, tools, cgroup } = request;
  const options = bwrapOptions(spec, request.rootfs, request.helper, { seccomp: SECCOMP, status: STATUS });
  const toClose = inheritedDescriptors().filter((descriptor) => descriptor >= FIRST_UNUSED);
  const needsBash = toClose.some((descriptor) => descriptor > HIGHEST_OF_POSIX_SHELL);
  const shell = needsBash ? tools.bash : tools.shell;
  if (shell === undefined) {
    throw new RuntimeUnavailableError("bwrap", [
      `the worker was started with open descriptors (${toClose.join(", ")}) that only bash can close: start it without them, or install bash`,
    ]);
  }
  // Opened anew for each sandbox: the offset of an open file is shared with everybody who has it.
  const seccomp = openSync(request.seccompPath, "r");
  try {
    const child = spawn(
      shell,
      [
        // With a socket as its input, bash takes itself for a remote login and reads root's .bashrc.
        ...(needsBash ? ["--norc", "--noprofile"] : []),
        ...["-c", script(toClose), "longshore-sandbox", ...(cgroup?.joinFiles ?? []), "--"],
        ...userCommand(spec, tools),
        ...limitCommand(spec, tools, cgroup),
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
function userCommand({ user }: SandboxSpec, tools: HostTools): string[] {
  if (process.getuid?.() !== 0) return [];
  return [
    ...[tools.setpriv, "--reuid", String(user.uid), "--regid", String(user.gid), "--clear-groups"],
    ...["--inh-caps=-all", "--"],
  ];
}

function limitCommand(spec: SandboxSpec, tools: HostTools, cgroup: SandboxCgroup | undefined): string[] {
  const limits = resolveLimits(spec.limits);
  const { memory = false, pids = false } = cgroup?.abilities ?? {};
  return [
    tools.prlimit,
    `--nofile=${limits.openFiles}:${limits.openFiles}`,
    `--fsize=${limits.fileBytes}:${limits.fileBytes}`,
    "--core=0:0",
    // Per process and per user, where the kernel counts for no group. Not the address space, which
    // JavaScript and Go programs reserve without using it.
    ...(memory ? [] : [`--data=${limits.memoryBytes}:${limits.memoryBytes}`]),
    ...(pids ? [] : [`--nproc=${limits.pids}:${limits.pids}`]),
    "--",
  ];
}
