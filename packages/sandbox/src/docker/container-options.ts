import type { ContainerCreateOptions, HostConfig } from "dockerode";
import { sandboxEnvironment } from "../environment.ts";
import { resolveLimits } from "../limits.ts";
import type { SandboxSpec } from "../sandbox.ts";
import { containerLabels } from "./labels.ts";

/** gVisor's own threads are counted as the container's. */
const GVISOR_PIDS_MIN = 1024;

/** Sandboxes die before the worker and its neighbours when the host itself runs out of memory. */
const OOM_SCORE_ADJUSTMENT = 500;

/**
 * What the engine is told about a sandbox: nothing that is not said here is granted. The engine's default
 * seccomp profile, masked paths and device list stay in force because nothing overrides them.
 */
export function containerOptions(spec: SandboxSpec, runDirectory: string): ContainerCreateOptions {
  const limits = resolveLimits(spec.limits);
  const isGvisor = spec.ociRuntime?.startsWith("runsc") ?? false;
  // `CgroupnsMode` is younger than the declared type.
  const hostConfig: HostConfig & { CgroupnsMode: string } = {
    NetworkMode: "none",
    IpcMode: "private",
    CgroupnsMode: "private",
    ReadonlyRootfs: true,
    Privileged: false,
    CapDrop: ["ALL"],
    SecurityOpt: ["no-new-privileges"],
    Init: true,
    Memory: limits.memoryBytes,
    MemorySwap: limits.memoryBytes,
    NanoCpus: Math.round(limits.cpus * 1e9),
    PidsLimit: isGvisor ? Math.max(limits.pids, GVISOR_PIDS_MIN) : limits.pids,
    OomScoreAdj: OOM_SCORE_ADJUSTMENT,
    ShmSize: limits.shmBytes,
    Tmpfs: { "/tmp": `rw,nosuid,nodev,size=${limits.tmpBytes},mode=1777` },
    Ulimits: [
      { Name: "nofile", Soft: limits.openFiles, Hard: limits.openFiles },
      { Name: "fsize", Soft: limits.fileBytes, Hard: limits.fileBytes },
      { Name: "core", Soft: 0, Hard: 0 },
    ],
    Mounts: [
      {
        Type: "bind",
        Source: spec.slotDirectory,
        Target: "/session",
        ReadOnly: false,
        BindOptions: { Propagation: "rprivate" },
      },
    ],
    LogConfig: { Type: "none", Config: {} },
    RestartPolicy: { Name: "no" },
    AutoRemove: false,
    ...(spec.ociRuntime === undefined ? {} : { Runtime: spec.ociRuntime }),
  };
  return {
    ...(spec.image === undefined ? {} : { Image: spec.image }),
    ...(spec.command === undefined ? {} : { Entrypoint: [...spec.command], Cmd: [] }),
    Env: Object.entries(sandboxEnvironment(spec.env)).map(([name, value]) => `${name}=${value}`),
    User: `${spec.user.uid}:${spec.user.gid}`,
    WorkingDir: spec.workingDirectory,
    Hostname: "sandbox",
    Labels: containerLabels(spec.labels, runDirectory),
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
