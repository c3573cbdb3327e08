import type { ContainerCreateOptions, HostConfig, MountSettings } from "dockerode";
import { type Covers, hiddenPaths, isSessionWritable, isTmpExecutable } from "../access-mounts.ts";
import { sandboxEnvironment } from "../environment.ts";
import {
  HELPER_PROGRAM,
  MAILBOX_DIRECTORY,
  MAILBOX_PROGRAM,
  RUN_COMMAND,
  SOCKETS_DIRECTORY,
} from "../helper/helper-paths.ts";
import type { HelperPrograms } from "../helper/install-helper.ts";
import { CPU_PERIOD_MICROSECONDS, cpuQuotaMicroseconds, resolveLimits } from "../limits.ts";
import type { SandboxSpec } from "../sandbox.ts";
import { visibleMounts } from "../visible-mounts.ts";
import { containerLabels } from "./labels.ts";

/** gVisor's own threads are counted as the container's. */
const GVISOR_PIDS_MIN = 1024;

/** Sandboxes die before the worker and its neighbours when the host itself runs out of memory. */
const OOM_SCORE_ADJUSTMENT = 500;

/** What a container is made of beside its specification. */
export interface ContainerParts {
  readonly runDirectory: string;
  /** The agent's program and arguments: the specification's, or the image's own. */
  readonly command: readonly string[];
  /** There on the engine's host. */
  readonly helpers: HelperPrograms;
  /** There, too. */
  readonly covers: Covers;
  /** Path of the directory of the sandbox's sockets there. */
  readonly socketsDirectory: string;
}

/**
 * What the engine is told about a sandbox: nothing that is not said here is granted. The engine's default
 * seccomp profile, masked paths and device list stay in force because nothing overrides them.
 */
export function containerOptions(spec: SandboxSpec, parts: ContainerParts): ContainerCreateOptions {
  const limits = resolveLimits(spec.limits);
  const { access = [] } = spec;
  const isSessionReadOnly = !isSessionWritable(access);
  const tmpExecution = isTmpExecutable(access) ? "exec" : "noexec";
  const isGvisor = spec.ociRuntime?.startsWith("runsc") ?? false;
  const pids = isGvisor ? Math.max(limits.pids, GVISOR_PIDS_MIN) : limits.pids;
  // `CgroupnsMode` is younger than the declared type.
  const hostConfig: HostConfig & { CgroupnsMode: string } = {
    NetworkMode: "none",
    IpcMode: "private",
    CgroupnsMode: "private",
    ReadonlyRootfs: true,
    Privileged: false,
    CapDrop: ["ALL"],
    SecurityOpt: ["no-new-privileges"],
    // The helper is the first process and does what the engine's own would.
    Init: false,
    Memory: limits.memoryBytes,
    MemorySwap: limits.memoryBytes,
    CpuPeriod: CPU_PERIOD_MICROSECONDS,
    CpuQuota: cpuQuotaMicroseconds(limits),
    PidsLimit: pids,
    OomScoreAdj: OOM_SCORE_ADJUSTMENT,
    ShmSize: limits.shmBytes,
    Tmpfs: { "/tmp": `rw,${tmpExecution},nosuid,nodev,size=${limits.tmpBytes},mode=1777` },
    Ulimits: [
      { Name: "nofile", Soft: limits.openFiles, Hard: limits.openFiles },
      { Name: "fsize", Soft: limits.fileBytes, Hard: limits.fileBytes },
      { Name: "core", Soft: 0, Hard: 0 },
      // The user is the sandbox's own. Left out, Podman asks for more than a service may have that lacks CAP_SYS_RESOURCE.
      { Name: "nproc", Soft: pids, Hard: pids },
    ],
    Mounts: [
      bind(parts.helpers.init, HELPER_PROGRAM, true),
      bind(parts.socketsDirectory, SOCKETS_DIRECTORY, true),
      bind(spec.slotDirectory, "/session", isSessionReadOnly),
      ...(spec.mailbox
        ? [
            bind(parts.helpers.mailbox, MAILBOX_PROGRAM, true),
            bind(spec.slotDirectory, MAILBOX_DIRECTORY, isSessionReadOnly),
          ]
        : []),
      ...visibleMounts(spec, parts.covers).map(({ source, target, readOnly }) =>
        bind(source, target, readOnly),
      ),
      // What is not in the image gets an empty mount point, which is no less hidden.
      ...hiddenPaths(access).map(({ path, isDirectory }) =>
        bind(isDirectory ? parts.covers.directory : parts.covers.file, path, true),
      ),
    ],
    LogConfig: { Type: "none", Config: {} },
    RestartPolicy: { Name: "no" },
    AutoRemove: false,
    ...(spec.ociRuntime === undefined ? {} : { Runtime: spec.ociRuntime }),
  };
  return {
    ...(spec.image === undefined ? {} : { Image: spec.image }),
    Entrypoint: [...RUN_COMMAND],
    Cmd: [...(spec.mailbox ? [MAILBOX_PROGRAM] : []), ...parts.command],
    Env: Object.entries(sandboxEnvironment(spec.env)).map(([name, value]) => `${name}=${value}`),
    User: `${spec.user.uid}:${spec.user.gid}`,
    WorkingDir: spec.workingDirectory,
    Hostname: "sandbox",
    Labels: containerLabels(spec.labels, parts.runDirectory),
    StopSignal: "SIGTERM",
    Tty: false,
    // The first attached client owns stdin and closes it when it goes: an agent that reads stdin ends
    // with its worker.
    OpenStdin: true,
    StdinOnce: true,
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
    HostConfig: hostConfig,
  };
}

function bind(source: string, target: string, isReadOnly: boolean): MountSettings {
  // `NonRecursive` is younger than the declared type.
  const options: MountSettings["BindOptions"] & { NonRecursive: boolean } = {
    Propagation: "rprivate",
    // Read-only is the bind itself and not what is mounted below it, so nothing of that is seen.
    NonRecursive: true,
  };
  return {
    Type: "bind",
    Source: source,
    Target: target,
    ReadOnly: isReadOnly,
    BindOptions: options,
  };
}
