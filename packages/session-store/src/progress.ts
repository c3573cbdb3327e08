import type { Clock } from "@longshore/shared";

/** How far a long operation is: bytes of content, of those that it has to move. */
export interface Progress {
  readonly done: number;
  readonly total: number;
}

/** Told now and then, at most every 100 ms, and at the end. Must not throw. */
export type ProgressListener = (progress: Progress) => void;

const STEP_MS = 100;

/** Counts what an operation has done, and tells a listener. */
export class ProgressMeter {
  readonly #listener: ProgressListener | undefined;
  readonly #total: number;
  readonly #clock: Clock;
  #done = 0;
  #toldMs: number;

  constructor(listener: ProgressListener | undefined, total: number, clock: Clock) {
    this.#listener = listener;
    this.#total = total;
    this.#clock = clock;
    this.#toldMs = clock.monotonic();
  }

  add(bytes: number): void {
    if (this.#listener === undefined) return;
    this.#done += bytes;
    const nowMs = this.#clock.monotonic();
    if (nowMs < this.#toldMs + STEP_MS) return;
    this.#toldMs = nowMs;
    this.#listener({ done: Math.min(this.#done, this.#total), total: this.#total });
  }

  /** The operation has succeeded. */
  end(): void {
    this.#listener?.({ done: this.#total, total: this.#total });
  }
}
