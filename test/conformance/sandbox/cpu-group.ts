import { readFile } from "node:fs/promises";

/** What the kernel's scheduler does to the control group of a process. */
export interface CpuGroup {
  /** Share of cores that it may use. */
  readonly cpus: number;
  /** Periods in which it was stopped since its share was used up. */
  readonly throttledPeriods: number;
}

/** Undefined for a process that is gone, or not there. */
export async function cpuGroupOf(pid: number | undefined): Promise<CpuGroup | undefined> {
  if (pid === undefined) return undefined;
  try {
    const groups = await readFile(`/proc/${pid}/cgroup`, "utf8");
    const v1 = /^\d+:(?:[^:]*,)?cpu(?:,[^:]*)?:(.*)$/m.exec(groups)?.[1];
    const directory =
      v1 === undefined ? `/sys/fs/cgroup${/^0::(.*)$/m.exec(groups)?.[1]}` : `/sys/fs/cgroup/cpu${v1}`;
    const [quota = 0, period = 1] =
      v1 === undefined
        ? (await readFile(`${directory}/cpu.max`, "utf8")).split(" ").map(Number)
        : await Promise.all(
            ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map(async (file) =>
              Number(await readFile(`${directory}/${file}`, "utf8")),
            ),
          );
    const statistics = await readFile(`${directory}/cpu.stat`, "utf8");
    return { cpus: quota / period, throttledPeriods: Number(/^nr_throttled (\d+)$/m.exec(statistics)?.[1]) };
  } catch {
    return undefined;
  }
}
