import type { Sandbox, SandboxUser, Slots } from "@longshore/sandbox";
import type { Mirror, WorkingCopy } from "@longshore/session-store";
import type { AgentDefinition } from "@longshore/shared";
import type { Agent } from "./agent.ts";
import { mountPatterns } from "./mounts.ts";

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
  readonly #sandbox: HeldSandbox;
  readonly #furnish: () => Promise<void>;
  #isPaused = false;
  #mayHaveChanged = true;

  constructor(options: {
    readonly agent: Agent;
    readonly sandbox: HeldSandbox;
    readonly copy: WorkingCopy;
    readonly definition: AgentDefinition;
    readonly slots: Pick<Slots, "furnish">;
    /** Names the slot. */
    readonly nonce: string;
    readonly slotDirectory: string;
    readonly user: SandboxUser;
  }) {
    this.agent = options.agent;
    this.copy = options.copy;
    this.definition = options.definition;
    this.slotDirectory = options.slotDirectory;
    this.user = options.user;
    this.#sandbox = options.sandbox;
    this.#furnish = () => options.slots.furnish(options.nonce, options.user);
  }

  /** Whether the directory may be another than when it was mirrored last. */
  get mayHaveChanged(): boolean {
    return this.#mayHaveChanged;
  }

  async pause(): Promise<void> {
    if (this.#isPaused) return;
    await this.#sandbox.pause();
    this.#isPaused = true;
  }

  async resume(): Promise<void> {
    if (!this.#isPaused) return;
    this.#mayHaveChanged = true;
    await this.#sandbox.resume();
    this.#isPaused = false;
  }

  /**
   * Stores what changed, with the session's directories in place, whatever the agent made of them: the next sandbox
   * needs them. It has to be paused.
   *
   * @param onRead once all is read: it may be resumed from then on. Not called after an error
   * @throws QuotaExceededError with the numbers; errors of the store
   */
  async mirror(signal: AbortSignal, onRead: () => void = () => undefined): Promise<Mirror> {
    const { limits } = this.definition;
    const exclude = [...this.definition.exclude, ...mountPatterns(this.definition)];
    await this.#furnish();
    this.#mayHaveChanged = false;
    const quota = { bytes: limits.disk, files: limits.files };
    return await this.copy.mirror({ exclude, quota, signal, onRead });
  }
}
