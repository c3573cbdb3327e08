import {
  type AcceptedMessage,
  acceptedMessageSchema,
  LongshoreError,
  type RedisClient,
  waitingMessagesKey,
} from "@longshore/shared";
import type { Job, Queue } from "bullmq";
import { z } from "zod";

/** The furthest that a message's `notBefore` may be ahead, in ms: as long as attachments are kept for certain. */
export const WAIT_HORIZON_MS = 30 * 24 * 3_600_000;
/** Most messages of a tenant that wait for their time. */
const WAITING_MAX = 10_000;
/** So long after its time a message is still counted, in ms: one that the mailbox had no room for waits on. */
export const OVERDUE_MS = 24 * 3_600_000;
const MARGIN_MS = 3_600_000;
const JOB_NAME = "not-before";

/** The data of the delayed job: the message as the mailbox will hold it, its attachments stored already. */
export const waitingJobSchema = z.strictObject({ waiting: acceptedMessageSchema });

/** The tenant has as many messages waiting for their time as it may. */
export class TooManyWaitingError extends LongshoreError {
  constructor(waiting: number) {
    super("TOO_MANY_WAITING", `${waiting} messages of this tenant wait for their time already`, {
      retryable: true,
    });
  }
}

/** A message that waits for its time, or was refused when its time came. */
export interface WaitingMessage {
  readonly message: AcceptedMessage;
  /** Why it could not be accepted when its time came. */
  readonly error?: { readonly code: string; readonly message: string };
}

export interface WaitingMessagesOptions {
  readonly inbound: Queue;
  readonly redis: RedisClient;
}

/**
 * Messages that wait for their `notBefore`, each a delayed job of the queue `inbound`, whose id derives from the
 * message's: so it is there once, however often and to whichever dispatcher it is sent. A message is:
 *
 * - **waiting** (delayed) → due, when its time has come: the consumer of `inbound` accepts it. → gone, when it is
 *   cancelled, or its job is removed from a dashboard.
 * - **due** → accepted: the job is gone, and the message's record says the rest. → waiting, for a little, while the
 *   session's mailbox is full. → refused, when that has been so for a day.
 * - **refused** (the job failed) → waiting anew, when it is sent again.
 */
export class WaitingMessages {
  readonly #inbound: Queue;
  readonly #redis: RedisClient;

  constructor({ inbound, redis }: WaitingMessagesOptions) {
    this.#inbound = inbound;
    this.#redis = redis;
  }

  /** One that waits or was refused; undefined where there is none. */
  async find(messageId: string): Promise<WaitingMessage | undefined> {
    return readJob(await this.#job(messageId));
  }

  /**
   * Lets a message wait until its time. Nothing happens where it waits already.
   *
   * @param nowMs milliseconds since the epoch
   * @throws TooManyWaitingError
   */
  async add(message: AcceptedMessage, dueMs: number, nowMs: number): Promise<void> {
    const { id, tenant } = message;
    const key = waitingMessagesKey(tenant);
    await this.#redis.zremrangebyscore(key, "-inf", nowMs - OVERDUE_MS - MARGIN_MS);
    const [count, known] = await Promise.all([this.#redis.zcard(key), this.#redis.zscore(key, id)]);
    if (known === null && count >= WAITING_MAX) throw new TooManyWaitingError(count);
    // Counted first: one that is counted and not there is forgotten in time.
    await this.#redis.zadd(key, dueMs, id);
    const refused = await this.#job(id);
    if (refused !== undefined && (await refused.isFailed())) await refused.remove();
    await this.#inbound.add(
      JOB_NAME,
      { waiting: message },
      { jobId: jobIdOf(id), delay: Math.max(dueMs - nowMs, 0), removeOnComplete: true },
    );
  }

  /** Takes a message back; false where it does not wait (any more). */
  async cancel(tenant: string, messageId: string): Promise<boolean> {
    const job = await this.#job(messageId);
    const found = readJob(job);
    if (job === undefined || found === undefined || found.message.tenant !== tenant) return false;
    try {
      await job.remove();
    } catch (error) {
      // It is being accepted in this very moment.
      if ((await this.#job(messageId)) === undefined || (await job.isActive())) return false;
      throw error;
    }
    await this.forget(found.message);
    return true;
  }

  /** Counts a message no more: it was accepted. */
  async forget({ tenant, id }: AcceptedMessage): Promise<void> {
    await this.#redis.zrem(waitingMessagesKey(tenant), id);
  }

  async #job(messageId: string): Promise<Job | undefined> {
    return (await this.#inbound.getJob(jobIdOf(messageId))) as Job | undefined;
  }
}

function jobIdOf(messageId: string): string {
  return `waiting-${messageId}`;
}

function readJob(job: Job | undefined): WaitingMessage | undefined {
  const parsed = waitingJobSchema.safeParse(job?.data);
  if (!parsed.success) return undefined;
  const message = parsed.data.waiting;
  const reason = job?.failedReason;
  if (!reason) return { message };
  const [, code = "INTERNAL_ERROR", text = reason] = /^([A-Z_]+): (.*)$/s.exec(reason) ?? [];
  return { message, error: { code, message: text } };
}
