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

/**
 * The time over which a share of the processors is counted, in microseconds. What an agent does for a message is short, and its
 * programs use more than one core meanwhile: with the kernel's 100 ms they would be stopped in the middle of it, with a share
 * that they do not use up by far. The kernel takes up to a second.
 */
export const CPU_PERIOD_MICROSECONDS = 500_000;

/** What may be used of it. @returns at least 1,000, the kernel's least */
export function cpuQuotaMicroseconds({ cpus }: Pick<SandboxLimits, "cpus">): number {
  return Math.max(1_000, Math.round(cpus * CPU_PERIOD_MICROSECONDS));
}
