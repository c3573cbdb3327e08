import {
  type Clock,
  type Logger,
  type Metrics,
  WORKER_ACTIVATIONS_REPORTED,
  WORKER_REPORT_TTL_MS,
  type WorkerRegistry,
} from "@longshore/shared";
import { type ActivationState, activationStates } from "./activation.ts";

export interface AnnouncerOptions {
  readonly registry: WorkerRegistry;
  readonly workerId: string;
  readonly host: string;
  readonly places: number;
  /** What it does now. */
  readonly activity: () => readonly { readonly sessionId: string; readonly state: ActivationState }[];
  readonly draining: () => boolean;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Tells who looks what this worker does, again and again, until it ends: the registry forgets it after a while. */
export class Announcer {
  readonly #options: AnnouncerOptions;
  readonly #startedAt: string;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: AnnouncerOptions) {
    this.#options = options;
    this.#startedAt = new Date(options.clock.now()).toISOString();
  }

  start(): void {
    void this.#announce();
    this.#timer = setInterval(() => void this.#announce(), WORKER_REPORT_TTL_MS / 3);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    const { registry, workerId, log } = this.#options;
    await registry.withdraw(workerId).catch((error: unknown) => log.debug({ err: error }, "not withdrawn"));
  }

  async #announce(): Promise<void> {
    const { registry, workerId, host, places, activity, draining, metrics, clock, log } = this.#options;
    const activations = activity();
    for (const state of activationStates)
      metrics.activations.set(
        { state },
        activations.filter((activation) => activation.state === state).length,
      );
    try {
      await registry.announce({
        ...{ workerId, host, places, startedAt: this.#startedAt, draining: draining() },
        reportedAt: new Date(clock.now()).toISOString(),
        activations: activations.slice(0, WORKER_ACTIVATIONS_REPORTED),
      });
    } catch (error) {
      log.debug({ err: error }, "not announced");
    }
  }
}
