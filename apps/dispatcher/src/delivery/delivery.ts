import {
  type Clock,
  type DeadReply,
  keepConsuming,
  type Logger,
  type Metrics,
  type PublishedReply,
  QUEUE_PREFIX,
  queueNames,
  type RedisClient,
  type ReplyWake,
  type SessionState,
} from "@longshore/shared";
import { DelayedError, type Job, Worker } from "bullmq";
import { z } from "zod";
import { backoff } from "../backoff.ts";
import { isTransient } from "../errors.ts";
import { sleep } from "../sleep.ts";
import { type Channel, DeliveryError } from "./channel.ts";
import { ChannelPlaces } from "./channel-places.ts";
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
/** What was delivered is recorded for so long, in ms, while Redis is away; then it is as if nobody knew. */
const RECORD_MS = 60_000;
const RECORD_RETRY = { firstMs: 50, longestMs: 2_000 } as const;

const HELD = "it is held: nobody knows whether it was taken";
const OUTCOME_UNKNOWN: DeadReply["error"] = {
  code: "OUTCOME_UNKNOWN",
  message: `A call was begun and its outcome was not recorded; ${HELD}`,
};

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
  readonly redis: RedisClient;
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
 *   call. → delivered, when the channel took it. → waiting, when it did not. When nobody knows (no answer in time, a
 *   cut connection, a dispatcher that died here): as the channel's `unknownOutcome` says, → waiting and then the same
 *   call under the same key, or → dead at once, for an operator to decide.
 * - **waiting** (as sending; the wake is delayed) → sending, after the back-off. Only this conversation
 *   waits: its wake gives its place to others (I10). → dead, when the channel's time to give up is over, or when the
 *   receiver says that it will never take it.
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
  readonly #places: ChannelPlaces;

  constructor(options: DeliveryOptions) {
    this.#options = options;
    const { redis, clock, log } = options;
    this.#places = new ChannelPlaces({ places: CONCURRENCY, channelPlaces: CHANNEL_CONCURRENCY, clock });
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
    keepConsuming(this.#worker, (error) =>
      this.#options.log.error({ err: error }, "the delivery worker ended; it begins again"),
    );
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
    const place = this.#places.take(wake.channel);
    if (typeof place === "number") return place;
    try {
      return await this.#deliverAll(wake);
    } catch (error) {
      this.#options.log.warn({ err: error, sessionId: wake.sessionId }, "delivery interrupted");
      return TROUBLE_WAIT_MS;
    } finally {
      place();
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
    const { state, channel, metrics, log, random } = this.#options;
    const found = channel(reply.channel);
    const holds = found.unknownOutcome === "hold";
    const begun = await state.startDelivery(reply, !holds);
    if (begun === undefined) return undefined;
    const { started, attempts, sinceFirstMs } = begun;
    if (!started) return await this.#bury(reply, attempts, OUTCOME_UNKNOWN);
    const ids = { sessionId: reply.sessionId, replyId: reply.id, channel: reply.channel };
    let platformMessageId: string | undefined;
    try {
      ({ platformMessageId } = await found.deliver(reply));
    } catch (error) {
      if (!(error instanceof DeliveryError)) throw error;
      const { code, message } = error;
      if (holds && error.outcome === "unknown")
        return await this.#bury(reply, attempts, { ...OUTCOME_UNKNOWN, message: `${message}; ${HELD}` });
      if (!error.retryable || sinceFirstMs >= found.retry.giveUpMs)
        return await this.#bury(reply, attempts, { code, message });
      if (holds) await state.recordRefusal(reply);
      metrics.deliveries.inc({ channel: reply.channel, outcome: "failed" });
      const waitMs = Math.max(backoff(attempts, found.retry, random), error.retryAfterMs ?? 0);
      log.warn({ ...ids, attempts, error: { code, message }, waitMs }, "reply not delivered");
      return waitMs;
    }
    await this.#record(reply, platformMessageId);
    metrics.deliveries.inc({ channel: reply.channel, outcome: "delivered" });
    await this.#observe(reply);
    log.debug({ ...ids, attempts }, "reply delivered");
    return undefined;
  }

  /** Tried again while Redis is away: what is delivered and not recorded is sent a second time, or held for nothing. */
  async #record(reply: PublishedReply, platformMessageId: string | undefined): Promise<void> {
    const { state, clock, random } = this.#options;
    const startedAt = clock.monotonic();
    for (let failures = 1; ; failures++) {
      try {
        await state.markDelivered(reply, platformMessageId);
        return;
      } catch (error) {
        if (!isTransient(error) || clock.monotonic() - startedAt > RECORD_MS) throw error;
        if (!(await sleep(backoff(failures, RECORD_RETRY, random), this.#closing.signal))) throw error;
      }
    }
  }

  async #bury(reply: PublishedReply, attempts: number, error: DeadReply["error"]): Promise<undefined> {
    const { state, metrics, clock, log } = this.#options;
    const { id: replyId, sessionId, channel } = reply;
    await state.buryReply({ reply, error, attempts, diedAt: clock.now() });
    metrics.deliveries.inc({ channel, outcome: "dead" });
    log.error({ sessionId, replyId, channel, attempts, error }, "reply is dead");
  }

  async #observe(reply: PublishedReply): Promise<void> {
    const { state, metrics, clock } = this.#options;
    const { agent } = await state.inspect(reply.sessionId);
    if (agent === undefined) return;
    const seconds = Math.max(clock.now() - Date.parse(reply.createdAt), 0) / 1_000;
    metrics.turnPhaseSeconds.observe({ agent, phase: "deliver" }, seconds);
  }
}
