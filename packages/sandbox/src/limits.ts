import type { SandboxLimits } from "./sandbox.ts";

const MIB = 1024 ** 2;

/** Fills the fields of the limits that have a default. */
export function resolveLimits(limits: SandboxLimits): Required<SandboxLimits> {
  return {
    memoryBytes: limits.memoryBytes,
    cpus: limits.cpus,
    pids: limits.pids,
    openFiles: limits.openFiles ?? 4096,
    fileBytes: limits.fileBytes ?? 1024 * MIB,
    tmpBytes: limits.tmpBytes ?? 64 * MIB,
    shmBytes: limits.shmBytes ?? 16 * MIB,
  };
}
