import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { errnoOf } from "@longshore/shared";
import { CPU_PERIOD_MICROSECONDS, cpuQuotaMicroseconds } from "../limits.ts";
import type { SandboxLimits } from "../sandbox.ts";
import type { CgroupAbilities, CgroupTree, SandboxCgroup } from "./cgroup.ts";
import {
  countOf,
  foreseeJoin,
  listGroups,
  makeGroup,
  readGroupFile,
  readProcesses,
  removeGroup,
  SANDBOXES_GROUP,
  waitUntil,
} from "./cgroup-files.ts";

/**
 * A group whose processes keep forking may stay half frozen until it is thawed and frozen again. The figures
 * are those of runc (libcontainer/cgroups/fs/freezer.go).
 */
const LOOKS_BEFORE_THAW = 50;
const THAWED_MS = 10;

/** Directories of the writable controllers' hierarchies. */
export type CgroupV1Mounts = Readonly<Partial<Record<keyof CgroupAbilities, string>>>;

/** Control groups of version 1: a hierarchy per controller. */
export class CgroupV1Tree implements CgroupTree {
  readonly version = 1;
  readonly abilities: CgroupAbilities;
  readonly deafFreezer: string | undefined;
  readonly #mounts: CgroupV1Mounts;

  constructor(mounts: CgroupV1Mounts) {
    this.#mounts = mounts;
    this.deafFreezer = mounts.freezer === undefined ? undefined : join(mounts.freezer, SANDBOXES_GROUP);
    this.abilities = {
      memory: mounts.memory !== undefined,
      pids: mounts.pids !== undefined,
      cpu: mounts.cpu !== undefined,
      freezer: mounts.freezer !== undefined,
    };
  }

  sandbox(name: string): SandboxCgroup {
    return new CgroupV1(this.#mounts, this.abilities, name);
  }

  foresee(): void {
    const [hierarchy] = Object.entries(this.#mounts);
    if (hierarchy !== undefined) void foreseeJoin(hierarchy[1], hierarchy[0]);
  }

  async list(): Promise<string[]> {
    const names = await Promise.all(
      Object.values(this.#mounts).map((mount) => listGroups(join(mount, SANDBOXES_GROUP))),
    );
    return [...new Set(names.flat())];
  }
}

class CgroupV1 implements SandboxCgroup {
  readonly abilities: CgroupAbilities;
  readonly #groups: CgroupV1Mounts;

  constructor(mounts: CgroupV1Mounts, abilities: CgroupAbilities, name: string) {
    this.abilities = abilities;
    this.#groups = Object.fromEntries(
      Object.entries(mounts).map(([controller, mount]) => [controller, join(mount, SANDBOXES_GROUP, name)]),
    );
  }

  get joinFiles(): readonly string[] {
    return [...new Set(Object.values(this.#groups))].map((group) => join(group, "cgroup.procs"));
  }

  async make(): Promise<void> {
    await Promise.all(Object.values(this.#groups).map((group) => makeGroup(group)));
  }

  async create(limits: Required<SandboxLimits>): Promise<void> {
    const { memory, pids, cpu } = this.#groups;
    await this.make();
    if (memory !== undefined) {
      await writeFile(join(memory, "memory.limit_in_bytes"), String(limits.memoryBytes));
      await writeIfThere(join(memory, "memory.memsw.limit_in_bytes"), String(limits.memoryBytes));
    }
    if (pids !== undefined) await writeFile(join(pids, "pids.max"), String(limits.pids));
    if (cpu !== undefined) {
      await writeFile(join(cpu, "cpu.cfs_period_us"), String(CPU_PERIOD_MICROSECONDS));
      await writeFile(join(cpu, "cpu.cfs_quota_us"), String(cpuQuotaMicroseconds(limits)));
    }
  }

  async processes(): Promise<number[]> {
    const groups = Object.values(this.#groups);
    const found = await Promise.all(groups.map((group) => readProcesses(join(group, "cgroup.procs"))));
    return [...new Set(found.flat())];
  }

  async freeze(timeoutMs: number): Promise<void> {
    const { freezer } = this.#groups;
    if (freezer === undefined) throw new Error("there is no freezer");
    const state = join(freezer, "freezer.state");
    let looks = 0;
    const isFrozen = async () => {
      // A process that was made meanwhile can escape the freezer, and a parent then waits for its child for ever.
      if (++looks % LOOKS_BEFORE_THAW === 0) {
        await writeFile(state, "THAWED");
        await delay(THAWED_MS);
      }
      await writeFile(state, "FROZEN");
      return (await readGroupFile(state)).trim() === "FROZEN";
    };
    try {
      await waitUntil(isFrozen, timeoutMs, "not frozen");
    } catch (error) {
      await this.thaw();
      throw error;
    }
  }

  async thaw(): Promise<void> {
    const { freezer } = this.#groups;
    if (freezer !== undefined) await writeIfThere(join(freezer, "freezer.state"), "THAWED");
  }

  async memoryKills(): Promise<number> {
    const { memory } = this.#groups;
    if (memory === undefined) return 0;
    return countOf(await readGroupFile(join(memory, "memory.oom_control")), "oom_kill");
  }

  async remove(): Promise<void> {
    await Promise.all([...new Set(Object.values(this.#groups))].map((group) => removeGroup(group)));
  }
}

async function writeIfThere(path: string, value: string): Promise<void> {
  try {
    await writeFile(path, value, { flag: "r+" });
  } catch (error) {
    const code = errnoOf(error);
    if (code !== "ENOENT" && code !== "ENODEV") throw error;
  }
}
