import { setImmediate } from "node:timers/promises";

/** Longest stretch of work between two turns of the event loop, in ms: leases are renewed there. */
const SLICE_MS = 8;

/** Cuts long synchronous work into slices: call `due()` often, and await `next()` when it says so. */
export class Slices {
  readonly #signal: AbortSignal | undefined;
  #started = performance.now();

  constructor(signal?: AbortSignal) {
    this.#signal = signal;
  }

  due(): boolean {
    return performance.now() - this.#started > SLICE_MS;
  }

  /** Lets others run. Rejects with the signal's reason when it is aborted. */
  async next(): Promise<void> {
    await setImmediate();
    this.#signal?.throwIfAborted();
    this.#started = performance.now();
  }
}
