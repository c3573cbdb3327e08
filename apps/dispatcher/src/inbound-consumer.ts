import {
  type Clock,
  type Configuration,
  InvalidMessageError,
  inboundJobSchema,
  keepConsuming,
  type Logger,
  LongshoreError,
  MailboxFullError,
  type MessageRate,
  QUEUE_PREFIX,
  queueNames,
  type RedisClient,
  type Schedules,
  SessionBusyError,
  StorageFullError,
  scheduledJobSchema,
  ThrottledJobs,
} from "@longshore/shared";
import { DelayedError, type Job, Queue, UnrecoverableError, WaitingError, Worker } from "bullmq";
import type { z } from "zod";
import { type AcceptedAnswer, type Acceptor, isRefusal, type WaitingAnswer } from "./accept.ts";
import { backoff } from "./backoff.ts";
import { AttachmentFetchError, isTransient } from "./errors.ts";
import { InboundThrottle } from "./inbound-throttle.ts";
import { sleep } from "./sleep.ts";
import { OVERDUE_MS, TooManyWaitingError, waitingJobSchema } from "./waiting-messages.ts";

/** A dispatcher that dies holds the queue up for about this long, in ms. */
const LOCK_MS = 5_000;
/** After this long the worker looks again when Redis was away, in ms. */
const RUN_RETRY_MS = 1_000;
const RETRY = { firstMs: 100, longestMs: 5_000 } as const;
/** How long trouble may hold up the queue at one job, in ms, before that job steps aside. */
const HOLD_MS = 300_000;
const STEP_ASIDE_MS = 30_000;
const COMPLETED_KEPT = { age: 3_600, count: 1_000 } as const;
const FAILED_KEPT = { age: 30 * 24 * 3_600, count: 10_000 } as const;

export interface InboundConsumerOptions {
  readonly acceptor: Acceptor;
  readonly schedules: Schedules;
  readonly rate: MessageRate;
  readonly configuration: () => Configuration;
  /** Of this consumer alone: it blocks. Without a command time-out. */
  readonly redis: RedisClient;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Accepts what producers add to the BullMQ queue `inbound`; a completed job means that its message was
 * durably accepted (I2). A job is in one of these states:
 *
 * - **waiting** → active. One at a time over all dispatchers (BullMQ's global concurrency), so that what one
 *   producer adds one after another keeps its order (I1). It costs nothing: the processor only accepts.
 * - **delayed** → waiting, when its time has come: a message that waits for its `notBefore` (`WaitingMessages`). What is
 *   not delayed keeps its order.
 *   So is the next time of a schedule (`Schedules`), which is a message then; where the mailbox is full it is left out.
 * - **active** → completed, when the message is accepted, or was before; also when it has to wait for its `notBefore`,
 *   as another job then.
 *   → failed, for good, when it can never be accepted (malformed, unknown agent, too large): with the code,
 *   kept to be seen. Whatever `attempts` it has: no retry mends it.
 *   → failed by its own `attempts`, when the session's mailbox is full, or its tenant's storage, or the server of an
 *   attachment is in trouble: its producer decides how often to try.
 *   → delayed for a little, when the mailbox is full and the message has waited for its time: nobody else would try it
 *   again. Failed a day after its time.
 *   → active still, while Redis or the object store are in trouble: it is tried again in place, since most
 *   producers leave `attempts` at 1, and what comes behind it must not overtake it. Trouble that lasts for
 *   `HOLD_MS` is this job's alone, or worse than order: it goes to **delayed** and lets the others pass (I10).
 *   → delayed, when its tenant has sent as many messages in a minute as it may: see `InboundThrottle`.
 *   → waiting, at the front, when the dispatcher stops in the middle.
 * - **stalled** (its dispatcher died) → waiting, at the front, as often as it takes.
 */
export class InboundConsumer {
  readonly #options: InboundConsumerOptions;
  readonly #closing = new AbortController();
  readonly #worker: Worker;
  readonly #queue: Queue;
  readonly #throttle: InboundThrottle;

  constructor(options: InboundConsumerOptions) {
    this.#options = options;
    const { redis, rate, configuration, log } = options;
    this.#queue = new Queue(queueNames.inbound, { connection: redis, prefix: QUEUE_PREFIX });
    this.#queue.on("error", (error) => log.debug({ err: error }, "inbound queue"));
    const jobs = new ThrottledJobs(redis);
    this.#throttle = new InboundThrottle({ jobs, queue: this.#queue, rate, configuration });
    this.#worker = new Worker(queueNames.inbound, (job, token) => this.#process(job, token), {
      connection: redis,
      prefix: QUEUE_PREFIX,
      autorun: false,
      concurrency: 1,
      lockDuration: LOCK_MS,
      stalledInterval: LOCK_MS / 2,
      runRetryDelay: RUN_RETRY_MS,
      maxStalledCount: Number.MAX_SAFE_INTEGER,
      removeOnComplete: COMPLETED_KEPT,
      removeOnFail: FAILED_KEPT,
    });
    this.#worker.on("error", (error) => log.warn({ err: error }, "inbound consumer"));
    this.#worker.on("failed", (job, error) =>
      log.warn({ jobId: job?.id, reason: error.message }, "inbound job failed"),
    );
  }

  async start(): Promise<void> {
    await this.#queue.setGlobalConcurrency(1);
    keepConsuming(this.#worker, (error) =>
      this.#options.log.error({ err: error }, "the inbound consumer ended; it begins again"),
    );
  }

  /** Ends after the job in hand; one that is being tried again goes back to the front of the queue. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#worker.close();
    await this.#queue.close();
  }

  async #process(job: Job, token: string | undefined): ReturnType<Wanted["accept"]> {
    const { acceptor, clock, log } = this.#options;
    const { accept, tenant, untilMs } = this.#read(job);
    const started = clock.monotonic();
    for (let failures = 1; ; failures++) {
      try {
        const outcome =
          tenant === undefined
            ? { result: await accept(acceptor) }
            : await this.#throttle.accept(tenant, job, () => accept(acceptor));
        if ("result" in outcome) return outcome.result;
        await job.moveToDelayed(clock.now() + outcome.waitMs, token);
        throw new DelayedError();
      } catch (error) {
        if (error instanceof DelayedError) throw error;
        const isTaken = error instanceof MailboxFullError || error instanceof SessionBusyError;
        if (isTaken && clock.now() < untilMs) {
          await job.moveToDelayed(clock.now() + STEP_ASIDE_MS, token);
          throw new DelayedError();
        }
        const isFull =
          isTaken ||
          error instanceof TooManyWaitingError ||
          error instanceof StorageFullError ||
          // Tried again in place, it would hold up other producers' messages.
          error instanceof AttachmentFetchError;
        if (isFull || isRefusal(error) || !isTrouble(error)) {
          if (tenant !== undefined) await this.#throttle.leave(tenant, job);
          if (isFull) throw new Error(`${error.code}: ${error.message}`, { cause: error });
          throw refusal(error);
        }
        if (clock.monotonic() - started > HOLD_MS) {
          log.warn({ err: error, jobId: job.id }, "inbound job steps aside");
          await job.moveToDelayed(clock.now() + STEP_ASIDE_MS, token);
          throw new DelayedError();
        }
        log.warn({ err: error, jobId: job.id, failures }, "inbound job is tried again");
        if (!(await sleep(backoff(failures, RETRY), this.#closing.signal))) {
          await job.moveToWait(token);
          throw new WaitingError();
        }
      }
    }
  }

  /** @throws UnrecoverableError where the job is none of ours */
  #read(job: Job): Wanted {
    const { data } = job;
    const scheduled = scheduledJobSchema.safeParse(data);
    if (scheduled.success) {
      const { tenant } = scheduled.data.schedule;
      return { accept: (acceptor) => this.#acceptScheduled(job, acceptor), tenant, untilMs: 0 };
    }
    const due = waitingJobSchema.safeParse(data);
    if (due.success) {
      const { waiting } = due.data;
      const dueMs = Date.parse(waiting.notBefore ?? waiting.acceptedAt);
      return { accept: (acceptor) => acceptor.acceptDue(waiting), untilMs: dueMs + OVERDUE_MS };
    }
    const parsed = inboundJobSchema.safeParse(data);
    if (!parsed.success) throw refusal(new InvalidMessageError(problemsOf(parsed.error)));
    const { tenant, ...message } = parsed.data;
    return { accept: (acceptor) => acceptor.accept(tenant, message), tenant, untilMs: 0 };
  }

  async #acceptScheduled(job: Job, acceptor: Acceptor): ReturnType<Wanted["accept"]> {
    const { schedules, log } = this.#options;
    const { tenant, id } = scheduledJobSchema.parse(job.data).schedule;
    const due = await schedules.due(job);
    if (due === undefined) {
      log.info({ tenant, schedule: id }, "a schedule that was removed is over");
      return undefined;
    }
    const answer = await acceptor.accept(tenant, { ...due.schedule.message, id: due.id, attachments: [] });
    await schedules.sent(job);
    return answer;
  }
}

/** What a job asks for. */
interface Wanted {
  readonly accept: (acceptor: Acceptor) => Promise<AcceptedAnswer | WaitingAnswer | undefined>;
  /** Whose rate it counts in; undefined for one that was counted when it was sent. */
  readonly tenant?: string;
  /** Until when it steps aside by itself while its session's mailbox is full, in ms since the epoch. */
  readonly untilMs: number;
}

/** Whatever is wrong is wrong outside the message, and will be mended; a defect of ours is none of these. */
function isTrouble(error: unknown): boolean {
  return error instanceof LongshoreError || isTransient(error);
}

function refusal(error: unknown): UnrecoverableError {
  const code = error instanceof LongshoreError ? error.code : "INTERNAL_ERROR";
  return new UnrecoverableError(`${code}: ${error instanceof Error ? error.message : String(error)}`);
}

function problemsOf(error: z.ZodError): { where: string; problem: string }[] {
  return error.issues.map(({ path, message }) => ({ where: path.join("."), problem: message }));
}
