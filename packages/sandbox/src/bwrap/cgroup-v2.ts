import { writeFile } from "node:fs/promises";
import { join } from "node:path";
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

/** Control groups of version 2: one hierarchy, in which a group has processes or limited children. */
export class CgroupV2Tree implements CgroupTree {
  readonly version = 2;
  readonly deafFreezer = undefined;
  readonly abilities: CgroupAbilities;
  readonly #mountPoint: string;
  readonly #sandboxes: string;

  /**
   * @param parent directory of a group without processes of its own, whose children get the controllers
   * @param controllers of the children
   */
  constructor(mountPoint: string, parent: string, controllers: readonly string[]) {
    this.#mountPoint = mountPoint;
    this.#sandboxes = join(parent, SANDBOXES_GROUP);
    this.abilities = {
      memory: controllers.includes("memory"),
      pids: controllers.includes("pids"),
      cpu: controllers.includes("cpu"),
      freezer: true,
    };
  }

  sandbox(name: string): SandboxCgroup {
    return new CgroupV2(this.#sandboxes, this.abilities, name);
  }

  foresee(): void {
    void foreseeJoin(this.#mountPoint, "");
  }

  list(): Promise<string[]> {
    return listGroups(this.#sandboxes);
  }
}

class CgroupV2 implements SandboxCgroup {
  readonly abilities: CgroupAbilities;
  readonly #sandboxes: string;
  readonly #group: string;

  constructor(sandboxes: string, abilities: CgroupAbilities, name: string) {
    this.abilities = abilities;
    this.#sandboxes = sandboxes;
    this.#group = join(sandboxes, name);
  }

  get joinFiles(): readonly string[] {
    return [join(this.#group, "cgroup.procs")];
  }

  async make(): Promise<void> {
    const { memory, pids, cpu } = this.abilities;
    await makeGroup(this.#sandboxes);
    const wanted = Object.entries({ memory, pids, cpu })
      .filter(([, isThere]) => isThere)
      .map(([controller]) => `+${controller}`);
    if (wanted.length > 0) await writeFile(join(this.#sandboxes, "cgroup.subtree_control"), wanted.join(" "));
    await makeGroup(this.#group);
  }

  async create(limits: Required<SandboxLimits>): Promise<void> {
    const { memory, pids, cpu } = this.abilities;
    await this.make();
    if (memory) {
      await this.#write("memory.max", String(limits.memoryBytes));
      await this.#write("memory.swap.max", "0");
    }
    if (pids) await this.#write("pids.max", String(limits.pids));
    if (cpu) {
      await this.#write("cpu.max", `${cpuQuotaMicroseconds(limits)} ${CPU_PERIOD_MICROSECONDS}`);
    }
  }

  processes(): Promise<number[]> {
    return readProcesses(join(this.#group, "cgroup.procs"));
  }

  async freeze(timeoutMs: number): Promise<void> {
    await this.#write("cgroup.freeze", "1");
    const events = join(this.#group, "cgroup.events");
    await waitUntil(
      async () => countOf(await readGroupFile(events), "frozen") === 1,
      timeoutMs,
      "not frozen",
    );
  }

  async thaw(): Promise<void> {
    await this.#write("cgroup.freeze", "0");
  }

  async memoryKills(): Promise<number> {
    return countOf(await readGroupFile(join(this.#group, "memory.events")), "oom_kill");
  }

  async remove(): Promise<void> {
    await removeGroup(this.#group);
  }

  /** Files that this kernel or configuration does not have (swap accounting) are passed over. */
  async #write(file: string, value: string): Promise<void> {
    try {
      await writeFile(join(this.#group, file), value, { flag: "r+" });
    } catch (error) {
      const code = errnoOf(error);
      if (code !== "ENOENT" && code !== "ENODEV") throw error;
    }
  }
}
