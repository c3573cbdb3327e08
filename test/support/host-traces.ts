import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { engineAt } from "../../infra/setup/provided-services.ts";
import { required } from "./fleet.ts";
import { seesMounted } from "./sees-mounted.ts";

/** Deep enough for the control groups of sandboxes, with all controllers. */
const CGROUP_DEPTH = 4;

/**
 * What there is on this host of a worker's sandboxes: containers, processes, control groups, mounts, slots.
 * Each by the worker's id, which is in all their names, labels and paths.
 */
export async function hostTraces(workerId: string, runDirectory: string): Promise<string[]> {
  const [containers, processes, groups, slots] = await Promise.all([
    containersOf(workerId),
    processesOf(workerId),
    pathsBelow("/sys/fs/cgroup", CGROUP_DEPTH),
    readdir(join(runDirectory, "workers", workerId, "slots")).catch(() => []),
  ]);
  const mounts = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
  return [
    ...containers,
    ...processes,
    ...groups.filter((path) => path.includes(workerId)),
    ...mounts.filter((line) => line.includes(workerId)).map((line) => `mount ${line}`),
    ...slots.map((name) => `slot ${name}`),
  ];
}

/** Of a worker that has ended: what thaws frozen sandboxes should it be killed ends itself, a moment after it. */
export async function expectNoTraces(workerId: string, runDirectory: string): Promise<void> {
  await expect.poll(() => hostTraces(workerId, runDirectory)).toEqual([]);
}

async function containersOf(workerId: string): Promise<string[]> {
  const containers = await engineAt(required("DOCKER_HOST")).listContainers({
    all: true,
    filters: { label: [`longshore.worker=${workerId}`] },
  });
  return containers.map(({ Names }) => `container ${Names.join(" ")}`);
}

/**
 * By their command line, which holds a slot's path outside of it, or by what they see mounted of it.
 */
async function processesOf(workerId: string): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      const read = (file: string) => readFile(`/proc/${pid}/${file}`, "utf8").catch(() => "");
      const [command, mounts] = await Promise.all([read("cmdline"), read("mountinfo")]);
      const isOne = command.includes(workerId) || seesMounted(mounts, workerId);
      return isOne ? [`process ${pid} ${command.replaceAll("\0", " ").slice(0, 200)}`] : [];
    }),
  );
  return found.flat();
}

async function pathsBelow(directory: string, depth: number): Promise<string[]> {
  if (depth === 0) return [];
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  const below = await Promise.all(
    entries
      .filter((entry) => entry.isDirectory())
      .map(async ({ name }) => {
        const path = join(directory, name);
        return [path, ...(await pathsBelow(path, depth - 1))];
      }),
  );
  return below.flat();
}
