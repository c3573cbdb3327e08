import type { Clock, TurnPhase } from "@longshore/shared";

/** How long the phases of one turn took, in ms. */
export class PhaseTimes {
  readonly #clock: Clock;
  #times: Partial<Record<TurnPhase, number>> = {};

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get times(): Readonly<Partial<Record<TurnPhase, number>>> {
    return this.#times;
  }

  /** @param since monotonic time when the phase began */
  measure(phase: TurnPhase, since: number): void {
    this.#times[phase] = this.#clock.monotonic() - since;
  }

  /** How long a message waited until now, where that was not measured for this turn before. */
  measureQueue(acceptedAt: string): void {
    this.#times.queue ??= Math.max(0, this.#clock.now() - Date.parse(acceptedAt));
  }

  /** For the next turn. */
  clear(): void {
    this.#times = {};
  }
}
