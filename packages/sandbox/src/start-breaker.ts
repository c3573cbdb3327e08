import { type Clock, LongshoreError, systemClock } from "@longshore/shared";
import { EngineUnreachableError, RuntimeRestingError, RuntimeUnavailableError } from "./errors.ts";
import type {
  IsLive,
  ReapResult,
  RuntimeReport,
  Sandbox,
  SandboxLabels,
  SandboxRuntime,
  SandboxSpec,
} from "./sandbox.ts";

/** How long no start is tried after so many failed ones in a row, in milliseconds; the last for all that follow. */
const RESTS_MS = [0, 0, 10_000, 30_000, 120_000, 300_000, 900_000];

/**
 * A runtime whose starts are given a rest while they keep failing, so that a host with a broken engine does not take
 * sessions, fetch their files and drop them again as fast as it can.
 *
 * closed   every start is tried. A failure of the engine's or the host's own → closed, twice; from the third in a
 *          row on → resting. What is the agent's fault (its image, its program, its definition), and a start that was
 *          cut off, counts as nothing.
 * resting  starts are refused at once, and `check` says why, until the time is over → trying; or, where the engine
 *          could not even be reached, until it answers.
 * trying   one start is tried, the others are refused. It succeeds → closed; fails → resting, for longer.
 */
export class StartBreaker implements SandboxRuntime {
  readonly name: SandboxRuntime["name"];
  readonly #runtime: SandboxRuntime;
  readonly #clock: Clock;
  #failures = 0;
  #lastFailure: LongshoreError | undefined;
  #restsUntil = 0;
  #isTrying = false;

  constructor(runtime: SandboxRuntime, clock: Clock = systemClock) {
    this.name = runtime.name;
    this.#runtime = runtime;
    this.#clock = clock;
  }

  /** @throws RuntimeRestingError besides what the runtime's own does */
  async check(signal?: AbortSignal): Promise<RuntimeReport> {
    const report = await this.#runtime.check(signal);
    this.#answered();
    const resting = this.#resting();
    if (resting !== undefined) throw resting;
    return report;
  }

  foresee(labels: Pick<SandboxLabels, "worker" | "nonce">): void {
    this.#runtime.foresee?.(labels);
  }

  /** @throws RuntimeRestingError besides what the runtime's own does */
  async start(spec: SandboxSpec, signal?: AbortSignal): Promise<Sandbox> {
    if (this.#resting() !== undefined && !this.#hasAnswered) await this.check(signal);
    const resting = this.#resting() ?? (this.#isTrying ? this.#restingFor(0) : undefined);
    if (resting !== undefined) throw resting;
    const isTrial = this.#failures >= RESTS_MS.findIndex((restMs) => restMs > 0);
    this.#isTrying ||= isTrial;
    try {
      const sandbox = await this.#runtime.start(spec, signal);
      this.#failures = 0;
      this.#lastFailure = undefined;
      return sandbox;
    } catch (error) {
      if (!signal?.aborted) this.#failed(error);
      throw error;
    } finally {
      if (isTrial) this.#isTrying = false;
    }
  }

  reap(isLive: IsLive): Promise<ReapResult> {
    return this.#runtime.reap(isLive);
  }

  #failed(error: unknown): void {
    const isHosts =
      error instanceof LongshoreError && (error.retryable || error instanceof RuntimeUnavailableError);
    if (!isHosts) return;
    this.#failures++;
    this.#lastFailure = error;
    this.#restsUntil =
      this.#clock.monotonic() + (RESTS_MS[Math.min(this.#failures, RESTS_MS.length) - 1] ?? 0);
  }

  /** Whether the last failure says that there is something to be asked at all. */
  get #hasAnswered(): boolean {
    return !(this.#lastFailure instanceof EngineUnreachableError);
  }

  #answered(): void {
    if (!this.#hasAnswered) this.#restsUntil = this.#clock.monotonic();
  }

  #resting(): RuntimeRestingError | undefined {
    const leftMs = this.#restsUntil - this.#clock.monotonic();
    return leftMs > 0 && this.#lastFailure !== undefined ? this.#restingFor(leftMs) : undefined;
  }

  #restingFor(leftMs: number): RuntimeRestingError {
    return new RuntimeRestingError(this.name, this.#failures, leftMs, this.#lastFailure);
  }
}
