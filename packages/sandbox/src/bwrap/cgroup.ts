import type { SandboxLimits } from "../sandbox.ts";

/** The control groups of one sandbox. */
export interface SandboxCgroup {
  /** Files to which a process writes `0` to get in, with all its children to come. */
  readonly joinFiles: readonly string[];
  /** What this host's cgroups limit or do; rlimits and signals stand in for the rest. */
  readonly abilities: CgroupAbilities;
  /** Makes the groups. */
  make(): Promise<void>;
  /** The same, and sets the limits. */
  create(limits: Required<SandboxLimits>): Promise<void>;
  /** Ids of the processes in it, as this process' namespace numbers them. */
  processes(): Promise<number[]>;
  /** Resolves when no process in it runs. @throws Error when it did not freeze within the time */
  freeze(timeoutMs: number): Promise<void>;
  thaw(): Promise<void>;
  /** How often the kernel killed a process in it for lack of memory. */
  memoryKills(): Promise<number>;
  /** Removes the empty groups; it is nothing if there are none. */
  remove(): Promise<void>;
}

export interface CgroupAbilities {
  readonly memory: boolean;
  readonly pids: boolean;
  readonly cpu: boolean;
  readonly freezer: boolean;
}

/** The place of all sandboxes' control groups on this host. */
export interface CgroupTree {
  readonly version: 1 | 2;
  readonly abilities: CgroupAbilities;
  /** Where the groups are whose frozen processes no signal ends (version 1); undefined where SIGKILL does. */
  readonly deafFreezer: string | undefined;
  /** @param name as `formatSandboxName` makes it */
  sandbox(name: string): SandboxCgroup;
  /** See `foreseeJoin`. */
  foresee(): void;
  /** Names of the sandboxes' groups that are there, of all fleets of the host. */
  list(): Promise<string[]>;
}
