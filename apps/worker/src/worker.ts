import { setTimeout as sleep } from "node:timers/promises";
import {
  isSessionId,
  keepConsuming,
  type Logger,
  QUEUE_PREFIX,
  queueNames,
  type TurnOrder,
  type TurnWake,
  type TurnWakes,
} from "@longshore/shared";
import { DelayedError, type Job, type QueueOptions, Worker as QueueWorker } from "bullmq";
import { Activation, type ActivationParts, type ActivationState } from "./activation.ts";
import { Places } from "./places.ts";
import type { Quarantine } from "./quarantine.ts";
import { TurnAdmission, type TurnAdmissionOptions } from "./turn-admission.ts";

/** Jobs taken beyond the places, so that a new session can evict one that lingers. */
const JOBS_BEYOND_PLACES = 1;
/** How long a job waits for a place here before another worker, which may be free, can take it, in ms. */
const PLACE_WAIT_MS = 1_000;
/** So long it is left to others then, in ms: of workers that wait for a job Redis serves the one that has waited longest. */
const LEFT_TO_OTHERS_MS = 50;
/** How long to leave a session alone whose activation could not even be run, or whose turn is to be ended, in ms. */
const TROUBLE_DELAY_MS = 2_000;
/** How long to wait before a sandbox that would not die is tried again, in ms: twice as long each time. */
const RECLAIM_FIRST_MS = 500;
const RECLAIM_LONGEST_MS = 30_000;

export interface TurnWorkerOptions {
  readonly connection: QueueOptions["connection"];
  readonly places: number;
  readonly leaseMs: number;
  readonly parts: Omit<ActivationParts, "mayLinger" | "onTurn" | "admit" | "onRest" | "isAlone">;
  /** Serves what may kill its worker. */
  readonly quarantine: Quarantine;
  /** The order in which the turns of all tenants start. */
  readonly order: TurnOrder;
  readonly wakes: TurnWakes;
  /** The limits of tenants and users. */
  readonly admission: TurnAdmissionOptions;
  readonly log: Logger;
}

/**
 * Takes wakes from the queue `turns` and runs an activation for each.
 *
 * running → draining (`drain`): no new work; lingering ends at once; running turns may finish → handing back,
 * after the drain time: what still runs is stopped and its session released for others → closed.
 *
 * Jobs are only wakes, so none ever fails: one whose session is held elsewhere, waits for a retry or was
 * handed back moves itself to delayed; every other one completes. Stalled jobs are tried without limit:
 * a worker's death is no fault of the sessions on it.
 */
export class TurnWorker {
  readonly #options: TurnWorkerOptions;
  readonly #places: Places;
  readonly #queue: QueueWorker;
  /** By session: a process never runs two activations of one, though BullMQ may hand it its own stalled job. */
  readonly #activations = new Map<string, Activation>();
  readonly #jobs = new Map<string, Activation>();
  readonly #draining = new AbortController();

  constructor(options: TurnWorkerOptions) {
    this.#options = options;
    this.#places = new Places(options.places);
    this.#queue = new QueueWorker(queueNames.turns, (job, token) => this.#process(job, token), {
      connection: options.connection,
      prefix: QUEUE_PREFIX,
      autorun: false,
      concurrency: options.places + JOBS_BEYOND_PLACES,
      lockDuration: options.leaseMs,
      stalledInterval: Math.ceil(options.leaseMs / 3),
      maxStalledCount: Number.MAX_SAFE_INTEGER,
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
    });
    this.#queue.on("error", (error) => options.log.error({ err: error }, "the queue of turns"));
    this.#queue.on("lockRenewalFailed", (jobIds) => {
      for (const jobId of jobIds) this.#jobs.get(jobId)?.fence("the job's lock was lost");
    });
  }

  /** Whether an activation of this worker has that nonce. */
  owns(nonce: string): boolean {
    return [...this.#activations.values()].some((activation) => activation.owns(nonce));
  }

  /** The activations of this worker, and what each does. */
  get activity(): { readonly sessionId: string; readonly state: ActivationState }[] {
    return [...this.#activations].map(([sessionId, { state }]) => ({ sessionId, state }));
  }

  /** Begins to take jobs. */
  start(): void {
    keepConsuming(this.#queue, (error) =>
      this.#options.log.error({ err: error }, "the queue of turns ended; it begins again"),
    );
  }

  /** The session has a new message, perhaps. */
  hint(sessionId: string): void {
    this.#activations.get(sessionId)?.hint();
  }

  /** Takes no more work, lets running turns finish for `drainMs`, hands the rest back; resolves when nothing runs. */
  async drain(drainMs: number): Promise<void> {
    this.#draining.abort(new Error("the worker is draining"));
    const closed = this.#queue.close();
    for (const activation of this.#activations.values()) activation.evict();
    const timer = setTimeout(() => {
      for (const activation of this.#activations.values()) activation.handBack();
    }, drainMs);
    try {
      await closed;
    } finally {
      clearTimeout(timer);
    }
  }

  async #process(job: Job, token: string | undefined): Promise<void> {
    const { sessionId } = job.data as { readonly sessionId?: unknown };
    if (typeof sessionId !== "string" || !isSessionId(sessionId)) {
      this.#options.log.warn(
        { jobId: job.id },
        "a job on the queue of turns names no session; it is dropped",
      );
      return;
    }
    let turns = 0;
    const admission = new TurnAdmission(sessionId, this.#options.admission);
    const laterMs = await this.#activate(sessionId, job.id as string, admission, (tenant) => {
      // The first one waited under the job's tag; the others did not wait.
      this.#charge(tenant, turns++ === 0 ? (job as Job<TurnWake>).data.tag : undefined);
    }).finally(() => admission.rest());
    if (laterMs === undefined) return;
    // Else a session whose turns fail would be ahead of all others each time.
    if (turns > 0)
      await this.#options.wakes
        .replace(job)
        .catch((error: unknown) =>
          this.#options.log.warn({ err: error, sessionId }, "no new place in the order"),
        );
    await job.moveToDelayed(Date.now() + laterMs, token);
    // Whoever called it before could not hurry a job that was not delayed yet.
    if (await admission.wasCalled().catch(() => false))
      await this.#options.wakes.hurry((job as Job<TurnWake>).data).catch(() => undefined);
    // Nor who cancelled its turn. (Seen: between the record of a failure and the release of the session; it waited for the
    // retry's time.) Not at once: it may wait since another one holds the session, who is about to end it.
    else if (
      laterMs > TROUBLE_DELAY_MS &&
      (await this.#options.parts.state.isTurnMarked(sessionId).catch(() => false))
    )
      await job.changeDelay(TROUBLE_DELAY_MS).catch(() => undefined);
    throw new DelayedError();
  }

  #charge(tenant: string, tag: number | undefined): void {
    // A turn that is not charged is a little unfair; one that does not start would be worse.
    this.#options.order
      .charge(tenant, tag)
      .catch((error: unknown) => this.#options.log.warn({ err: error, tenant }, "a turn was not charged"));
  }

  /** Undefined where the job is done; else after how many ms the session is to be looked at again. */
  async #activate(
    sessionId: string,
    jobId: string,
    admission: TurnAdmission,
    onTurn: (tenant: string) => void,
  ): Promise<number | undefined> {
    const { parts, leaseMs, log } = this.#options;
    if (this.#activations.has(sessionId)) return leaseMs;
    // Before it takes a place, or lets another session's sandbox go for one.
    const waitMs = await admission.look().catch((error: unknown) => {
      log.warn({ err: error, sessionId }, "the limits could not be asked for");
      return TROUBLE_DELAY_MS;
    });
    // What was cancelled ends all the same: that takes no turn.
    const ends = async () => await parts.state.isTurnMarked(sessionId).catch(() => false);
    if (waitMs !== undefined && !(await ends())) return waitMs;
    let place: number;
    try {
      if (this.#places.taken >= this.#options.places) log.debug({ sessionId }, "waits for a place");
      const tooLong = AbortSignal.timeout(PLACE_WAIT_MS);
      place = await this.#places.acquire(AbortSignal.any([this.#draining.signal, tooLong]));
    } catch {
      return this.#draining.signal.aborted ? 0 : LEFT_TO_OTHERS_MS;
    }
    // While this one waited for a place, a second job of the session may have come.
    if (this.#activations.has(sessionId)) {
      this.#places.release(place);
      return leaseMs;
    }
    const activation = new Activation(sessionId, {
      ...parts,
      admit: (message) => admission.admit(message),
      onRest: () => admission.rest(),
      onTurn,
      mayLinger: () => !this.#places.wanted && !this.#draining.signal.aborted,
      isAlone: false,
    });
    this.#activations.set(sessionId, activation);
    this.#jobs.set(jobId, activation);
    this.#places.occupy(place, activation);
    try {
      const end = await activation.run();
      if (end.outcome === "released") return undefined;
      if (end.outcome === "later") return end.inMs;
      // It has this one's place, and whatever became of it is seen by the next activation.
      const inMs = await this.#options.quarantine.run(sessionId, end.turnMs, this.#draining.signal);
      return inMs ?? TROUBLE_DELAY_MS;
    } catch (error) {
      log.error({ err: error, sessionId }, "the activation could not be run");
      return TROUBLE_DELAY_MS;
    } finally {
      this.#activations.delete(sessionId);
      this.#jobs.delete(jobId);
      if (activation.stuck) void this.#reclaim(place, activation);
      else this.#places.release(place);
    }
  }

  /** Gives a place back when its sandbox has died at last; an engine that was gone may come back. */
  async #reclaim(place: number, activation: Activation): Promise<void> {
    const { signal } = this.#draining;
    for (let waitMs = RECLAIM_FIRST_MS; ; waitMs = Math.min(waitMs * 2, RECLAIM_LONGEST_MS)) {
      try {
        await sleep(waitMs, undefined, { signal, ref: false });
      } catch {
        // The worker stops; what is left is the reaper's.
        return;
      }
      if (await activation.clean()) break;
    }
    this.#places.release(place);
  }
}
