import type { AgentDefinition, Clock } from "@longshore/shared";
import { TurnTimeoutError } from "./errors.ts";

/** The limits of a turn: the whole of it, and the time without a sign of life. */
export class TurnLimits {
  readonly #clock: Clock;
  readonly #idleMs: number;
  readonly #stderrTail: () => string;
  readonly #excusedUntil: () => number;
  readonly #exceeded = new AbortController();
  readonly #turnTimer: NodeJS.Timeout;
  #idleTimer: NodeJS.Timeout | undefined;
  #lastSign: number;

  /**
   * @param stderrTail read when a limit is exceeded, for its error
   * @param excusedUntil until when there was a reason for its silence, in ms of the clock: now, while there is
   */
  constructor(
    { turn, idle }: AgentDefinition["limits"],
    clock: Clock,
    stderrTail: () => string,
    excusedUntil: () => number,
  ) {
    this.#clock = clock;
    this.#idleMs = idle;
    this.#stderrTail = stderrTail;
    this.#excusedUntil = excusedUntil;
    this.#turnTimer = setTimeout(() => this.#exceed("turn", turn), turn);
    this.#lastSign = clock.monotonic();
    this.#watchIdle(idle);
  }

  /** Aborted with a `TurnTimeoutError` when a limit is exceeded. */
  get signal(): AbortSignal {
    return this.#exceeded.signal;
  }

  /** The agent has given a sign of life. */
  sign(): void {
    this.#lastSign = this.#clock.monotonic();
  }

  stop(): void {
    clearTimeout(this.#turnTimer);
    clearTimeout(this.#idleTimer);
  }

  /** One timer for all signs, which may be many thousand a second. */
  #watchIdle(inMs: number): void {
    this.#idleTimer = setTimeout(() => {
      const silentSince = Math.max(this.#lastSign, this.#excusedUntil());
      const leftMs = silentSince + this.#idleMs - this.#clock.monotonic();
      if (leftMs > 0) this.#watchIdle(leftMs);
      else this.#exceed("idle", this.#idleMs);
    }, inMs);
  }

  #exceed(kind: "turn" | "idle", limitMs: number): void {
    this.#exceeded.abort(new TurnTimeoutError(kind, limitMs, this.#stderrTail()));
  }
}
