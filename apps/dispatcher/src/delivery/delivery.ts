import {
  type Clock,
  type Logger,
  type LongshoreError,
  type Metrics,
  type PublishedReply,
  QUEUE_PREFIX,
  queueNames,
  type ReplyWake,
  type SessionState,
} from "@longshore/shared";
import { DelayedError, type Job, Worker } from "bullmq";
import type { Redis } from "ioredis";
import { z } from "zod";
import { backoff } from "../backoff.ts";
import { type Channel, DeliveryError } from "./channel.ts";
import { sameConversation } from "./conversation-key.ts";

/** Conversations at once, and of these, those of one channel: a slow channel leaves room for the others. */
const CONCURRENCY = 256;
const CHANNEL_CONCURRENCY = 32;
/** A dispatcher that dies holds the conversations in its hand up for about this long, in ms. */
const LOCK_MS = 10_000;
/** After this long the worker looks again when Redis was away, in ms. */
const RUN_RETRY_MS = 1_000;
/** Replies of a session that are looked at together. */
const BATCH = 1_000;
/** Replies that one wake delivers before it lets other conversations have its place. */
const REPLIES_PER_WAKE = 100;
const TROUBLE_WAIT_MS = 1_000;
const BUSY_WAIT_MS = 250;

const replyWakeSchema = z.object({
  sessionId: z.string(),
  channel: z.string(),
  conversation: z.string(),
  thread: z.string().optional(),
});

export interface DeliveryOptions {
  readonly state: SessionState;
  readonly channel: (name: string) => Channel;
  /** Of this worker alone: it blocks. Without a command time-out. */
  readonly redis: Redis;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random?: () => number;
}

/**
 * Delivers replies. Jobs of the queue `replies` are wakes, at most one active for each conversation; what
 * there is to deliver is in the outbox. A reply is in one of these states:
 *
 * - **published** (in the outbox) → sending, when it is the first of its conversation. What comes behind it
 *   waits, so that a conversation reads its replies in order (I6).
 * - **sending** (in the outbox, with the number of calls and the time of the first): recorded before the
 *   call. A dispatcher that dies here has called or not, nobody knows: the call is made again under the same
 *   key. → delivered, when the channel took it. → waiting, when it did not, or nobody knows.
 * - **waiting** (as sending; the wake is delayed) → sending, after the back-off. Only this conversation
 *   waits: its wake gives its place to others (I10). → dead, when the channel's time to give up is over.
 * - **delivered**: out of the outbox, remembered, so that a commit that still carries it does not bring it
 *   back. Final.
 * - **dead**: out of the outbox, among the session's dead replies with its reason, logged and counted; the
 *   next reply of the conversation is served. Final here; whoever retries it publishes it again.
 *
 * A wake that gets lost is brought back by the sweeper.
 */
export class Delivery {
  readonly #options: DeliveryOptions;
  readonly #worker: Worker;
  readonly #closing = new AbortController();
  readonly #inChannel = new Map<string, number>();

  constructor(options: DeliveryOptions) {
    this.#options = options;
    const { redis, log } = options;
    this.#worker = new Worker(queueNames.replies, (job, token) => this.#process(job, token), {
      connection: redis,
      prefix: QUEUE_PREFIX,
      autorun: false,
      concurrency: CONCURRENCY,
      lockDuration: LOCK_MS,
      stalledInterval: LOCK_MS / 2,
      runRetryDelay: RUN_RETRY_MS,
      maxStalledCount: Number.MAX_SAFE_INTEGER,
    });
    this.#worker.on("error", (error) => log.warn({ err: error }, "delivery worker"));
    this.#worker.on("failed", (_job, error) =>
      log.warn({ err: error }, "delivery wake lost; the sweeper brings it back"),
    );
  }

  start(): void {
    this.#worker
      .run()
      .catch((error: unknown) => this.#options.log.error({ err: error }, "delivery worker ended"));
  }

  /** Ends after the calls in hand. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#worker.close();
  }

  async #process(job: Job, token: string | undefined): Promise<void> {
    const parsed = replyWakeSchema.safeParse(job.data);
    if (!parsed.success) {
      this.#options.log.warn({ jobId: job.id }, "a job on replies that is no wake");
      return;
    }
    const { thread, ...rest } = parsed.data;
    const wake: ReplyWake = thread === undefined ? rest : { ...rest, thread };
    const waitMs = await this.#drain(wake);
    if (waitMs === undefined) return;
    await job.moveToDelayed(this.#options.clock.now() + waitMs, token);
    throw new DelayedError();
  }

  /** Delivers what a conversation has; gives how long to wait before there is more to do, if there is. */
  async #drain(wake: ReplyWake): Promise<number | undefined> {
    const busy = this.#inChannel.get(wake.channel) ?? 0;
    if (busy >= CHANNEL_CONCURRENCY) return backoff(1, { firstMs: BUSY_WAIT_MS, longestMs: BUSY_WAIT_MS });
    this.#inChannel.set(wake.channel, busy + 1);
    try {
      return await this.#deliverAll(wake);
    } catch (error) {
      this.#options.log.warn({ err: error, sessionId: wake.sessionId }, "delivery interrupted");
      return TROUBLE_WAIT_MS;
    } finally {
      const left = (this.#inChannel.get(wake.channel) ?? 1) - 1;
      if (left > 0) this.#inChannel.set(wake.channel, left);
      else this.#inChannel.delete(wake.channel);
    }
  }

  async #deliverAll(wake: ReplyWake): Promise<number | undefined> {
    const { state } = this.#options;
    for (let delivered = 0; delivered < REPLIES_PER_WAKE; ) {
      const outbox = await state.readOutbox(wake.sessionId, BATCH);
      const due = outbox.filter((reply) => sameConversation(reply, wake));
      if (due.length === 0) return undefined;
      for (const reply of due) {
        if (this.#closing.signal.aborted) return 0;
        const waitMs = await this.#deliver(reply);
        if (waitMs !== undefined) return waitMs;
        delivered += 1;
      }
    }
    return 0;
  }

  /** One call. Gives how long to wait before the next, where this one did not settle the reply. */
  async #deliver(reply: PublishedReply): Promise<number | undefined> {
    const { state, channel, metrics, clock, log, random } = this.#options;
    const started = await state.startDelivery(reply);
    if (started === undefined) return undefined;
    const found = channel(reply.channel);
    const ids = { sessionId: reply.sessionId, replyId: reply.id, channel: reply.channel };
    try {
      const { platformMessageId } = await found.deliver(reply);
      await state.markDelivered(reply, platformMessageId);
      metrics.deliveries.inc({ channel: reply.channel, outcome: "delivered" });
      await this.#observe(reply);
      log.debug({ ...ids, attempts: started.attempts }, "reply delivered");
      return undefined;
    } catch (error) {
      if (!(error instanceof DeliveryError)) throw error;
      const described = describe(error);
      if (started.sinceFirstMs >= found.retry.giveUpMs) {
        await state.buryReply({ reply, error: described, attempts: started.attempts, diedAt: clock.now() });
        metrics.deliveries.inc({ channel: reply.channel, outcome: "dead" });
        log.error({ ...ids, attempts: started.attempts, error: described }, "reply is dead");
        return undefined;
      }
      metrics.deliveries.inc({ channel: reply.channel, outcome: "failed" });
      const waitMs = Math.max(backoff(started.attempts, found.retry, random), error.retryAfterMs ?? 0);
      log.warn({ ...ids, attempts: started.attempts, error: described, waitMs }, "reply not delivered");
      return waitMs;
    }
  }

  async #observe(reply: PublishedReply): Promise<void> {
    const { state, metrics, clock } = this.#options;
    const { agent } = await state.inspect(reply.sessionId);
    if (agent === undefined) return;
    const seconds = Math.max(clock.now() - Date.parse(reply.createdAt), 0) / 1_000;
    metrics.turnPhaseSeconds.observe({ agent, phase: "deliver" }, seconds);
  }
}

function describe(error: LongshoreError): { code: string; message: string } {
  return { code: error.code, message: error.message };
}
