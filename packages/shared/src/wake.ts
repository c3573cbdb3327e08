import { type Job, type JobsOptions, Queue, type QueueOptions } from "bullmq";
import { QUEUE_PREFIX, queueNames } from "./keys.ts";
import { hashId } from "./session-id.ts";

/** Data of a job on `replies`: this conversation has replies to deliver. */
export interface ReplyWake {
  readonly sessionId: string;
  readonly channel: string;
  readonly conversation: string;
  readonly thread?: string;
}

/** States of a job that will still be processed. `active` without a living worker becomes stalled, then waits. */
const PENDING_STATES: ReadonlySet<string> = new Set([
  "waiting",
  "prioritized",
  "delayed",
  "active",
  "waiting-children",
]);

export type Connection = QueueOptions["connection"];

/**
 * A queue whose jobs are only wakes: at most one active and one waiting a subject. They may be lost; the
 * sweeper brings them back.
 */
export class WakeQueue<Data extends object> {
  readonly queue: Queue;
  readonly #subject: (data: Data) => string;

  constructor(name: string, connection: Connection, subject: (data: Data) => string) {
    this.queue = new Queue(name, { connection, prefix: QUEUE_PREFIX });
    this.#subject = subject;
  }

  async wake(data: Data): Promise<void> {
    await this.add(data, {});
  }

  /** Gives the job that waits now; not the added one where the subject had a job already. */
  protected async add(data: Data, options: JobsOptions): Promise<Job> {
    return await this.queue.add("wake", data, {
      ...options,
      deduplication: { id: this.#subject(data), keepLastIfActive: true },
      removeOnComplete: true,
      removeOnFail: true,
    });
  }

  /**
   * Makes sure that a job for this subject will be processed; true where there was none. (Seen: `remove`,
   * `drain`, `clean` and `obliterate` drop jobs, and a deduplication key may outlive its job.)
   */
  async ensure(data: Data): Promise<boolean> {
    const subject = this.#subject(data);
    const jobId = await this.queue.getDeduplicationJobId(subject);
    if (jobId !== null && PENDING_STATES.has(await this.queue.getJobState(jobId))) return false;
    // Only that job's own: one that ended in between gave its key to the next, which would not be alone without it.
    if (jobId !== null) await this.queue.backend.removeDeduplicationKey(subject, jobId);
    await this.wake(data);
    return true;
  }

  /** Makes sure that a job for this subject is processed now, also where one waits for its time. */
  async hasten(data: Data): Promise<void> {
    const jobId = await this.queue.getDeduplicationJobId(this.#subject(data));
    const job = jobId === null ? undefined : await this.queue.getJob(jobId);
    if (job !== undefined && (await job.isDelayed())) {
      try {
        return await job.promote();
      } catch (error) {
        if (await job.isDelayed()) throw error;
        // Its time came just now; it may have been looked at before what this wake is about.
      }
    }
    await this.wake(data);
  }

  async close(): Promise<void> {
    await this.queue.close();
  }
}

export function openReplyWakes(connection: Connection): WakeQueue<ReplyWake> {
  return new WakeQueue(queueNames.replies, connection, ({ sessionId, channel, conversation, thread }) =>
    hashId("delivery", sessionId, channel, conversation, thread ?? ""),
  );
}
