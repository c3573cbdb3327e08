import { diskSpaceOf, type Sandbox, type SandboxUser, type Slots, type SlotUse } from "@longshore/sandbox";
import type { Mirror, WorkingCopy } from "@longshore/session-store";
import type { AgentDefinition, Clock } from "@longshore/shared";
import type { Agent } from "./agent.ts";
import { DiskWatch } from "./disk-watch.ts";
import { mountPatterns } from "./mounts.ts";
import type { Volumes } from "./volumes.ts";

/** What an activation does to the sandbox over its session's directory. */
export type HeldSandbox = Pick<Sandbox, "pause" | "resume" | "destroy">;

/**
 * A session's directory and the sandbox over it, from hydration to the end.
 *
 * running ⇄ paused: while it is paused the directory stands still, so a mirror is of one moment, and the worker may
 * write into it. What ran since the last mirror may have changed it.
 */
export class RunningSession {
  readonly agent: Agent;
  readonly copy: WorkingCopy;
  readonly definition: AgentDefinition;
  readonly slotDirectory: string;
  readonly user: SandboxUser;
  readonly volumes: Volumes;
  readonly #targets: readonly string[];
  readonly #sandbox: HeldSandbox;
  readonly #furnish: () => Promise<void>;
  readonly #use: SlotUse;
  readonly #isBounded: boolean;
  #isPaused = false;
  /** Also after a pause that nobody knows the end of. */
  #mayBePaused = false;
  #mayHaveChanged = true;

  constructor(options: {
    readonly agent: Agent;
    readonly sandbox: HeldSandbox;
    readonly copy: WorkingCopy;
    readonly definition: AgentDefinition;
    readonly slots: Pick<Slots, "furnish" | "isBounded">;
    readonly use: SlotUse;
    /** Names the slot. */
    readonly nonce: string;
    readonly slotDirectory: string;
    readonly user: SandboxUser;
    readonly volumes: Volumes;
    /** As `foreignTargets` has them. */
    readonly targets: readonly string[];
  }) {
    this.agent = options.agent;
    this.copy = options.copy;
    this.definition = options.definition;
    this.slotDirectory = options.slotDirectory;
    this.user = options.user;
    this.volumes = options.volumes;
    this.#targets = options.targets;
    this.#sandbox = options.sandbox;
    this.#use = options.use;
    this.#isBounded = options.slots.isBounded(options.use.runtime);
    this.#furnish = () => options.slots.furnish(options.nonce, options.user);
  }

  /** Whether the directory may be another than when it was mirrored last. */
  get mayHaveChanged(): boolean {
    return this.#mayHaveChanged;
  }

  async pause(): Promise<void> {
    if (this.#isPaused) return;
    this.#mayBePaused = true;
    await this.#sandbox.pause();
    this.#isPaused = true;
  }

  async resume(): Promise<void> {
    if (!this.#mayBePaused) return;
    this.#mayHaveChanged = true;
    this.#isPaused = false;
    await this.#sandbox.resume();
    this.#mayBePaused = false;
  }

  /** Keeps what the sandbox can write to its quota, where the kernel does not. @param onFailure as of `DiskWatch` */
  watchDisk(clock: Clock, onFailure: (error: unknown) => void): DiskWatch | undefined {
    if (this.#isBounded) return undefined;
    const directories = [this.slotDirectory, ...this.volumes.writtenDirectories];
    return new DiskWatch({ directories, most: diskSpaceOf(this.#use.quota), clock, onFailure });
  }

  /**
   * Stores what changed, with the session's directories in place, whatever the agent made of them: the next sandbox
   * needs them. It has to be paused.
   *
   * @param onRead once all is read: it may be resumed from then on. Not called after an error
   * @throws QuotaExceededError with the numbers; errors of the store
   */
  async mirror(signal: AbortSignal, onRead: () => void = () => undefined): Promise<Mirror> {
    const exclude = [...this.definition.exclude, ...mountPatterns(this.#targets)];
    await this.#furnish();
    this.#mayHaveChanged = false;
    return await this.copy.mirror({ exclude, quota: this.#use.quota, signal, onRead });
  }
}
