/**
 * Takes a checkpoint every so often, one at a time, while a turn runs.
 *
 * waiting → (time) taking → waiting; waiting or taking → (`stop`) stopped. A failure that `take` does not keep to
 * itself is told once, and no more checkpoints are taken.
 */
export class Checkpoints {
  readonly #everyMs: number;
  readonly #take: () => Promise<void>;
  readonly #onFailure: (error: unknown) => void;
  #timer: NodeJS.Timeout | undefined;
  #taking: Promise<void> | undefined;
  #isStopped = false;

  /** @param options.everyMs from the end of one, in ms; 0: none is taken */
  constructor(options: {
    readonly everyMs: number;
    readonly take: () => Promise<void>;
    readonly onFailure: (error: unknown) => void;
  }) {
    this.#everyMs = options.everyMs;
    this.#take = options.take;
    this.#onFailure = options.onFailure;
    this.#wait();
  }

  /** Resolves when none is being taken any more. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#taking;
  }

  #wait(): void {
    if (this.#everyMs === 0 || this.#isStopped) return;
    this.#timer = setTimeout(() => {
      this.#taking = this.#take().then(
        () => this.#wait(),
        (error: unknown) => this.#onFailure(error),
      );
    }, this.#everyMs);
  }
}
