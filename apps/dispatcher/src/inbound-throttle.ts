import {
  type Configuration,
  type MessageRate,
  RateLimitedError,
  type ThrottledJobs,
} from "@longshore/shared";
import type { Job, Queue } from "bullmq";

/** States of a job that will still be taken. */
const PENDING: ReadonlySet<string> = new Set(["waiting", "prioritized", "delayed", "active"]);
/** Jobs that are gone and are passed over at once; more than these is left to the next job. */
const GONE_AT_ONCE = 100;
const MINUTE_MS = 60_000;

/**
 * Lets jobs of `inbound` wait whose tenant has sent as many messages in a minute as it may.
 *
 * free: nobody of the tenant waits; its jobs are accepted as they come → (one is refused for the rate) throttled: that
 * one and all that come after it stand in line; each is delayed until its place in the line should be due, and only the
 * first is accepted → (the last has left) free. So the tenant's messages keep their order, other tenants' jobs pass,
 * and a job is looked at once or twice however long the line is. A first one that was removed from the queue is passed
 * over.
 */
export class InboundThrottle {
  readonly #jobs: ThrottledJobs;
  readonly #queue: Queue;
  readonly #rate: MessageRate;
  readonly #configuration: () => Configuration;

  constructor(options: {
    readonly jobs: ThrottledJobs;
    readonly queue: Queue;
    readonly rate: MessageRate;
    readonly configuration: () => Configuration;
  }) {
    this.#jobs = options.jobs;
    this.#queue = options.queue;
    this.#rate = options.rate;
    this.#configuration = options.configuration;
  }

  /**
   * Accepts a job's message, if the job is next.
   *
   * @returns what accepting gave, or after how many ms the job is to be looked at again
   * @throws whatever accepting throws for other reasons than the rate; `leave` is to be called then where the job is
   *   not tried again in its place
   */
  async accept<Result>(
    tenant: string,
    job: Job,
    accept: () => Promise<Result>,
  ): Promise<{ readonly result: Result } | { readonly waitMs: number }> {
    const jobId = job.id as string;
    const first = await this.#first(tenant, jobId);
    if (first !== undefined && first !== jobId) return await this.#wait(tenant, jobId);
    try {
      const result = await accept();
      if (first === jobId) await this.leave(tenant, job);
      return { result };
    } catch (error) {
      if (error instanceof RateLimitedError) return await this.#wait(tenant, jobId);
      throw error;
    }
  }

  /** Lets those behind it in line be next, whatever came of it. */
  async leave(tenant: string, job: Job): Promise<void> {
    await this.#jobs.leave(tenant, job.id as string);
  }

  async #first(tenant: string, jobId: string): Promise<string | undefined> {
    for (let gone = 0; ; gone++) {
      const first = await this.#jobs.first(tenant);
      if (first === undefined || first === jobId || gone === GONE_AT_ONCE) return first;
      if (PENDING.has(await this.#queue.getJobState(first))) return first;
      await this.#jobs.leave(tenant, first);
    }
  }

  /** The line moves on by a job each `MINUTE_MS / limit`, once there is room. */
  async #wait(tenant: string, jobId: string): Promise<{ readonly waitMs: number }> {
    const limit = this.#configuration().tenants[tenant]?.limits.messagesPerMinute ?? 1;
    const before = await this.#jobs.queue(tenant, jobId);
    const roomInMs = await this.#rate.roomIn(tenant, limit);
    return { waitMs: Math.ceil(roomInMs + before * (MINUTE_MS / limit)) };
  }
}
