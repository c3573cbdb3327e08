import { type Clock, FencedError, type Lease, type SessionState } from "@longshore/shared";

/** The part of the time to live that must be left when the activation still acts as the holder. */
const MARGIN = 1 / 5;

/**
 * Keeps an activation's lease, and says when it is lost (I5).
 *
 * held → lost: a renewal is refused, or the last one that succeeded is older than the time to live less a
 * margin, by the monotonic clock. Lost is final. A process that was stopped or blocked notices by itself,
 * before it asks anybody: `assertHeld` compares clocks and needs no timer to have fired.
 */
export class LeaseKeeper {
  readonly #state: Pick<SessionState, "renewLease" | "raiseEpoch">;
  readonly #sessionId: string;
  readonly #ttlMs: number;
  readonly #clock: Clock;
  readonly #controller = new AbortController();
  #lease: Lease;
  #raising = false;
  #renewedAt: number;
  #renewing: NodeJS.Timeout | undefined;
  #watching: NodeJS.Timeout | undefined;

  /** `takenAt`: monotonic time from before the lease was asked for. */
  constructor(options: {
    readonly state: Pick<SessionState, "renewLease" | "raiseEpoch">;
    readonly sessionId: string;
    readonly lease: Lease;
    readonly ttlMs: number;
    readonly takenAt: number;
    readonly clock: Clock;
  }) {
    this.#state = options.state;
    this.#sessionId = options.sessionId;
    this.#lease = options.lease;
    this.#ttlMs = options.ttlMs;
    this.#clock = options.clock;
    this.#renewedAt = options.takenAt;
    this.#renewing = setInterval(() => void this.#renew(), this.#ttlMs / 3);
    this.#watch();
  }

  get lease(): Lease {
    return this.#lease;
  }

  /** Aborted with a `FencedError` when the lease is lost. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Throws a `FencedError` where the lease may be lost. To be called before everything that others see. */
  assertHeld(): void {
    if (this.#leftMs() <= 0) this.lose("expired");
    this.signal.throwIfAborted();
  }

  /** Raises the epoch above that of the newest commit, where Redis came back with older data. */
  async raiseEpoch(epoch: number): Promise<void> {
    this.#raising = true;
    try {
      await this.#state.raiseEpoch(this.#sessionId, this.#lease, epoch);
      this.#lease = { nonce: this.#lease.nonce, epoch };
    } finally {
      this.#raising = false;
    }
  }

  lose(reason: string): void {
    this.stop();
    if (!this.signal.aborted) this.#controller.abort(new FencedError(reason));
  }

  /** Renews no more: the lease was released, or lost. */
  stop(): void {
    clearInterval(this.#renewing);
    clearTimeout(this.#watching);
    this.#renewing = undefined;
  }

  async #renew(): Promise<void> {
    // Redis would refuse the epoch of before, and that would look like a lost lease; the next one is in time.
    if (this.#raising) return;
    const askedAt = this.#clock.monotonic();
    const lease = this.#lease;
    try {
      await this.#state.renewLease(this.#sessionId, lease, this.#ttlMs);
    } catch (error) {
      // A process that did not run reads the answer before it looks at its timers: its own clock is the cause then.
      if (error instanceof FencedError && this.#renewing !== undefined)
        this.lose(this.#leftMs() <= 0 ? "expired" : "refused");
      // Redis out of reach: the watch ends the activation in time, and the next renewal may succeed.
      return;
    }
    if (this.#renewing === undefined) return;
    this.#renewedAt = askedAt;
    this.#watch();
  }

  #watch(): void {
    clearTimeout(this.#watching);
    this.#watching = setTimeout(() => this.lose("expired"), Math.max(this.#leftMs(), 0));
  }

  #leftMs(): number {
    return this.#renewedAt + this.#ttlMs * (1 - MARGIN) - this.#clock.monotonic();
  }
}
