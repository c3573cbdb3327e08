import type { Sandbox } from "@longshore/sandbox";

/**
 * The sandboxes of an activation whose agent has one for each turn: never two at once, since each is over the same
 * directory. Between turns there is none, or what is left of the last one.
 */
export class TurnSandbox implements Pick<Sandbox, "pause" | "resume" | "destroy"> {
  readonly #start: (signal: AbortSignal) => Promise<Sandbox>;
  #current: Sandbox | undefined;
  #last: Pick<Sandbox, "stderrTail"> | undefined;
  #removal: Promise<void> | undefined;

  /** @param start as `startSandbox` */
  constructor(start: (signal: AbortSignal) => Promise<Sandbox>) {
    this.#start = start;
  }

  /** @throws as `start`; SandboxStuckError where the one before will not go */
  async start(signal: AbortSignal): Promise<Sandbox> {
    await this.destroy();
    this.#current = await this.#start(signal);
    this.#last = this.#current;
    return this.#current;
  }

  /** Of the one that runs, or of the last one. */
  stderrTail(): string {
    return this.#last?.stderrTail() ?? "";
  }

  async pause(): Promise<void> {
    await this.#current?.pause();
  }

  async resume(): Promise<void> {
    await this.#current?.resume();
  }

  /** Removes one that has ended while nobody waits for it; where that fails, it is tried again before the next one. */
  discard(): void {
    this.destroy().catch(() => undefined);
  }

  async destroy(): Promise<void> {
    const current = this.#current;
    if (current === undefined) return;
    this.#removal ??= current.destroy().finally(() => {
      this.#removal = undefined;
    });
    await this.#removal;
    if (this.#current === current) this.#current = undefined;
  }
}
