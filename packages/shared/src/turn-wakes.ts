import { randomBytes } from "node:crypto";
import type { Job } from "bullmq";
import { queueNames } from "./keys.ts";
import { LAST_PRIORITY, priorityOf, type TurnOrder } from "./turn-order.ts";
import { type Connection, WakeQueue } from "./wake.ts";

/** Data of a job on `turns`: somebody should look at this session. */
export interface TurnWake {
  readonly sessionId: string;
  /** Whose it is; without it the job has no place in the order of turns, and is served last. */
  readonly tenant?: string;
  /** The place in the order of turns that the job waits under (`TurnOrder`). */
  readonly tag?: number;
}

/** Jobs that are looked at together. */
const PAGE = 500;

/**
 * Wakes of sessions: jobs of `turns`, each with its tenant's place in the order of turns as its priority. A wake whose
 * place can't be had is added last, never dropped.
 */
export class TurnWakes extends WakeQueue<TurnWake> {
  readonly #order: TurnOrder | undefined;
  /** Ids of jobs: not all digits and without a colon, which BullMQ refuses (seen). */
  readonly #idPrefix = `wake-${randomBytes(8).toString("hex")}-`;
  #wakes = 0;

  /** Without an `order` all wakes have the same, the last, priority. */
  constructor(connection: Connection, order: TurnOrder | undefined) {
    super(queueNames.turns, connection, ({ sessionId }) => sessionId);
    this.#order = order;
  }

  override async wake({ sessionId, tenant }: TurnWake): Promise<void> {
    const place =
      tenant === undefined ? undefined : await this.#order?.reserve(tenant).catch(() => undefined);
    const jobId = `${this.#idPrefix}${(++this.#wakes).toString(36)}`;
    const job = await this.add(
      {
        sessionId,
        ...(tenant === undefined ? {} : { tenant }),
        ...(place === undefined ? {} : { tag: place.tag }),
      },
      { jobId, priority: place?.priority ?? LAST_PRIORITY },
    );
    // The session had a job already, which keeps its own place. A place that is lost costs the tenant one turn.
    if (job.id !== jobId && tenant !== undefined && place !== undefined)
      await this.#order?.giveBack(tenant).catch(() => undefined);
  }

  /** Lets a session's delayed job be taken at once; makes one where there is none. */
  async hurry(wake: TurnWake): Promise<void> {
    const jobId = await this.queue.getDeduplicationJobId(wake.sessionId);
    const job = jobId === null ? undefined : await this.queue.getJob(jobId);
    if (job === undefined) await this.ensure(wake);
    // Not delayed (any more): it will be taken, or is active and looks before it goes.
    else if (await job.isDelayed()) await job.promote().catch(() => undefined);
  }

  /** Gives a job that has had its turn, and waits for another one, a new place. */
  async replace(job: Job<TurnWake>): Promise<void> {
    const { sessionId, tenant } = job.data;
    if (tenant === undefined || this.#order === undefined) return;
    const { tag, priority } = await this.#order.reserve(tenant);
    await Promise.all([job.updateData({ sessionId, tenant, tag }), job.changePriority({ priority })]);
  }

  /** Gives waiting jobs new priorities where the base that they count from has moved; gives how many were looked at. */
  async rebase(after?: number): Promise<number> {
    const base = await this.#order?.rebase(after);
    if (base === undefined) return 0;
    let seen = 0;
    for (const state of ["prioritized", "delayed"] as const) {
      // From the first on: new priorities are lower ones, so no job moves behind what is looked at next. Jobs that are
      // taken meanwhile make a few be passed over; the looks that follow find them.
      const count = await this.queue.getJobCountByTypes(state);
      for (let start = 0; start < count; start += PAGE) {
        const jobs: Job<TurnWake>[] = await this.queue.getJobs([state], start, start + PAGE - 1, true);
        seen += jobs.length;
        for (const job of jobs) {
          const priority = priorityOf(job.data.tag, base);
          if (job.priority !== priority) await job.changePriority({ priority }).catch(() => undefined);
        }
      }
    }
    return seen;
  }
}

export function openTurnWakes(connection: Connection, order?: TurnOrder): TurnWakes {
  return new TurnWakes(connection, order);
}
