import { existsSync } from "node:fs";
import { type Covers, isSessionWritable } from "../access-mounts.ts";
import { sandboxEnvironment } from "../environment.ts";
import {
  HELPER_PROGRAM,
  MAILBOX_DIRECTORY,
  MAILBOX_PROGRAM,
  SOCKETS_DIRECTORY,
} from "../helper/helper-paths.ts";
import type { HelperPrograms } from "../helper/install-helper.ts";
import { resolveLimits } from "../limits.ts";
import type { SandboxSpec } from "../sandbox.ts";
import { visibleMounts } from "../visible-mounts.ts";
import { coverOptions, rootOptions } from "./root-filesystem.ts";

/** The root holds nothing but mount points and links, and is read-only in the end. */
const ROOT_BYTES = 1024 ** 2;

/** Files of `/proc` that tell of the whole host; shown as a device that can't be opened. */
const MASKED_FILES = [
  "kcore",
  "keys",
  "latency_stats",
  "sched_debug",
  "timer_list",
  "timer_stats",
  "kallsyms",
];
/** Directories of `/proc` likewise; shown empty. */
const MASKED_DIRECTORIES = ["acpi", "asound", "driver", "fs", "scsi"];

/** Descriptors that bubblewrap gets besides standard input, output and error. */
export interface BwrapDescriptors {
  /** The seccomp filter. */
  readonly seccomp: number;
  /** Where it tells the process id and the exit status. */
  readonly status: number;
}

/** Paths on the host of what is mounted for the helper. */
export interface HelperMounts {
  readonly programs: HelperPrograms;
  readonly sockets: string;
  readonly covers: Covers;
}

/**
 * bubblewrap's options for a sandbox. They hold the agent's environment, so they are handed over by a
 * descriptor and not on a command line that every process of the host can read.
 * @throws SandboxSpecError when the root file system is none
 */
export function bwrapOptions(
  spec: SandboxSpec,
  rootfs: string,
  helper: HelperMounts,
  descriptors: BwrapDescriptors,
): string[] {
  const limits = resolveLimits(spec.limits);
  const session = isSessionWritable(spec.access ?? []) ? "--bind" : "--ro-bind";
  return [
    "--unshare-all",
    // Not the default "try": without a namespace of its own for users it must not start at all.
    "--unshare-user",
    "--unshare-cgroup",
    "--disable-userns",
    ...["--uid", String(spec.user.uid), "--gid", String(spec.user.gid)],
    ...["--hostname", "sandbox"],
    "--die-with-parent",
    "--new-session",
    // The helper is the first process, which nothing inside can stop or kill.
    "--as-pid-1",
    ...["--cap-drop", "ALL"],
    "--clearenv",
    ...Object.entries(sandboxEnvironment(spec.env)).flatMap(([name, value]) => ["--setenv", name, value]),
    ...["--perms", "0755", "--size", String(ROOT_BYTES), "--tmpfs", "/"],
    ...rootOptions(rootfs),
    ...["--proc", "/proc"],
    ...MASKED_FILES.filter((name) => existsSync(`/proc/${name}`)).flatMap((name) => [
      ...["--ro-bind", "/dev/null", `/proc/${name}`],
    ]),
    ...MASKED_DIRECTORIES.filter((name) => existsSync(`/proc/${name}`)).flatMap((name) => [
      ...["--size", "4096", "--tmpfs", `/proc/${name}`, "--remount-ro", `/proc/${name}`],
    ]),
    ...["--dev", "/dev"],
    ...["--perms", "1777", "--size", String(limits.shmBytes), "--tmpfs", "/dev/shm"],
    ...["--remount-ro", "/dev"],
    ...["--perms", "1777", "--size", String(limits.tmpBytes), "--tmpfs", "/tmp"],
    ...["--dir", "/run"],
    ...["--ro-bind", helper.programs.init, HELPER_PROGRAM],
    ...["--ro-bind", helper.sockets, SOCKETS_DIRECTORY],
    ...[session, spec.slotDirectory, "/session"],
    ...(spec.mailbox
      ? [
          ...["--ro-bind", helper.programs.mailbox, MAILBOX_PROGRAM],
          ...[session, spec.slotDirectory, MAILBOX_DIRECTORY],
        ]
      : []),
    ...visibleMounts(spec, helper.covers).flatMap(({ source, target, readOnly }) => [
      ...[readOnly ? "--ro-bind" : "--bind", source, target],
    ]),
    ...coverOptions(rootfs, spec.access ?? [], helper.covers),
    ...["--remount-ro", "/"],
    ...["--chdir", spec.workingDirectory],
    ...["--seccomp", String(descriptors.seccomp)],
    ...["--json-status-fd", String(descriptors.status)],
  ];
}
