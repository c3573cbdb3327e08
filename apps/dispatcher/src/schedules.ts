import {
  type Clock,
  type Configuration,
  duration,
  type InputProblem,
  type Logger,
  LongshoreError,
  MessageTooLargeError,
  routeMessage,
  type Schedule,
  type ScheduleBook,
  type ScheduleTiming,
  type scheduledMessageSchema,
  timeZoneSchema,
} from "@longshore/shared";
import { getNextMillis, type Job, type Queue } from "bullmq";
import { z } from "zod";
import { sleep } from "./sleep.ts";

/** How often it is looked whether each schedule still has a job, in ms. */
const LOOK_MS = 60_000;
const JOB_NAME = "schedule";
const everySchema = duration({ min: "1m", max: "365d" });
/** Five fields; none of them the `H` of some crons, which is another time with each reading. */
const CRON = /^(?!.*\bH\b)[0-9A-Za-z*,/#?-]+(?: +[0-9A-Za-z*,/#?-]+){4}$/;
const CRON_MAX_LENGTH = 128;

/** The data of a scheduled job: what is sent is in the book. */
export const scheduledJobSchema = z.strictObject({
  schedule: z.strictObject({ tenant: z.string(), id: z.string() }),
});

/** What a schedule is asked for with: `cron` (with a `timeZone`, by default its agent's), or `every`. */
export interface ScheduleRequest {
  readonly id: string;
  readonly cron?: string | undefined;
  readonly timeZone?: string | undefined;
  readonly every?: string | undefined;
  readonly message: z.output<typeof scheduledMessageSchema>;
}

/** A schedule and when it is due next; undefined for a moment, while it is being due. */
export interface DueSchedule extends Schedule {
  readonly nextMs: number | undefined;
}

/** A schedule that can never be. */
export class InvalidScheduleError extends LongshoreError {
  readonly problems: readonly InputProblem[];

  constructor(where: string, problem: string) {
    super("INVALID_SCHEDULE", `The schedule is not valid: ${where}: ${problem}`);
    this.problems = [{ where, problem }];
  }
}

/** The tenant has no such schedule. */
export class ScheduleNotFoundError extends LongshoreError {
  constructor() {
    super("SCHEDULE_NOT_FOUND", "There is no such schedule");
  }
}

export interface SchedulesOptions {
  readonly book: ScheduleBook;
  readonly inbound: Queue;
  readonly configuration: () => Configuration;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Messages that are sent at set times. The book says what and when; a job scheduler of BullMQ on `inbound` is the clock,
 * with one delayed job for the next time, which the consumer of `inbound` turns into a message. A schedule is:
 *
 * - **kept** (in the book) → ticking, when its job scheduler is made. Killed in between: the keeper makes it.
 * - **ticking** → due, at its time: its message is accepted, under an id of the schedule's id and that time, and the job
 *   for the next one is made. Where no dispatcher ran, one job is overdue, whatever was missed: it is sent once, under
 *   the time that was missed first.
 * - **stopped** (its job was removed from a dashboard, or the queue was drained) → ticking, by the keeper, within a minute.
 * - **removed**: first its job scheduler, then its entry in the book. What the keeper made again in between is over when
 *   it is due: the book does not know it.
 */
export class Schedules {
  readonly #options: SchedulesOptions;
  readonly #closing = new AbortController();
  #running: Promise<void> | undefined;

  constructor(options: SchedulesOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  /**
   * Makes a schedule, or replaces that of the same id.
   *
   * @throws InvalidScheduleError; the errors of `routeMessage`; MessageTooLargeError; TooManySchedulesError
   */
  async put(
    tenant: string,
    request: ScheduleRequest,
  ): Promise<{ readonly schedule: DueSchedule; readonly created: boolean }> {
    const { book, inbound, clock, configuration } = this.#options;
    const { id, message } = request;
    const { agent } = routeMessage(configuration(), { tenant, ...message });
    const textBytes = Buffer.byteLength(message.text);
    if (textBytes > agent.limits.message)
      throw new MessageTooLargeError("text", textBytes, agent.limits.message, "bytes");
    const timing = readTiming(request, agent.timeZone, clock.now());
    const before = await book.find(tenant, id);
    const schedule = { id, timing, message, createdAt: new Date(clock.now()).toISOString() };
    const created = await book.put(tenant, schedule);
    if (before !== undefined && !isSame(before.timing, timing)) {
      // What a job scheduler had before would stay in it otherwise.
      await inbound.removeJobScheduler(schedulerIdOf(tenant, id));
    }
    await this.#ensure(tenant, schedule);
    return { schedule: await this.#describe(tenant, schedule), created };
  }

  /** A tenant's schedules, by id. */
  async list(tenant: string): Promise<DueSchedule[]> {
    const schedules = await this.#options.book.list(tenant);
    return await Promise.all(schedules.map((schedule) => this.#describe(tenant, schedule)));
  }

  /** @throws ScheduleNotFoundError */
  async remove(tenant: string, id: string): Promise<void> {
    const { book, inbound } = this.#options;
    if ((await book.find(tenant, id)) === undefined) throw new ScheduleNotFoundError();
    await inbound.removeJobScheduler(schedulerIdOf(tenant, id));
    if (!(await book.remove(tenant, id))) throw new ScheduleNotFoundError();
  }

  /**
   * What is to be sent for a job that is due; undefined where its schedule was removed, which then is over.
   *
   * @param job.data as `scheduledJobSchema` says
   */
  async due(job: Job): Promise<{ readonly id: string; readonly schedule: Schedule } | undefined> {
    const { tenant, id } = scheduledJobSchema.parse(job.data).schedule;
    const { book, inbound, log } = this.#options;
    const schedule = await book.find(tenant, id);
    if (schedule === undefined) {
      log.info({ tenant, schedule: id }, "a schedule that was removed is over");
      await inbound.removeJobScheduler(schedulerIdOf(tenant, id));
      return undefined;
    }
    return { id: `${id}@${new Date(dueTimeOf(job)).toISOString()}`, schedule };
  }

  async #run(): Promise<void> {
    const { configuration, book, log } = this.#options;
    do {
      try {
        for (const tenant of Object.keys(configuration().tenants)) {
          for (const schedule of await book.list(tenant)) {
            if (this.#closing.signal.aborted) return;
            if (await this.#ensure(tenant, schedule))
              log.warn({ tenant, schedule: schedule.id }, "a schedule that had stopped goes on");
          }
        }
      } catch (error) {
        log.warn({ err: error }, "not all schedules could be looked at");
      }
    } while (await sleep(LOOK_MS, this.#closing.signal));
  }

  /** Makes a schedule tick where it does not; gives whether it did not. */
  async #ensure(tenant: string, { id, timing }: Schedule): Promise<boolean> {
    const { inbound, clock } = this.#options;
    const schedulerId = schedulerIdOf(tenant, id);
    const scheduler = await inbound.getJobScheduler(schedulerId);
    // One that is due or overdue stays: to make it anew would skip it.
    if (scheduler !== undefined && (await this.#isPending(`repeat:${schedulerId}:${scheduler.next}`)))
      return false;
    const repeat =
      "cron" in timing
        ? { pattern: timing.cron, tz: timing.timeZone }
        : { every: timing.everyMs, startDate: clock.now() + timing.everyMs };
    if (scheduler !== undefined) await inbound.removeJobScheduler(schedulerId);
    await inbound.upsertJobScheduler(schedulerId, repeat, {
      name: JOB_NAME,
      data: { schedule: { tenant, id } },
    });
    return true;
  }

  async #isPending(jobId: string): Promise<boolean> {
    const state = await this.#options.inbound.getJobState(jobId);
    return state !== "unknown" && state !== "completed" && state !== "failed";
  }

  async #describe(tenant: string, schedule: Schedule): Promise<DueSchedule> {
    const scheduler = await this.#options.inbound.getJobScheduler(schedulerIdOf(tenant, schedule.id));
    return { ...schedule, nextMs: scheduler?.next };
  }
}

/** Names hold no `/`. */
function schedulerIdOf(tenant: string, id: string): string {
  return `${tenant}/${id}`;
}

/** The time that an occurrence was due, which BullMQ says in its job's id (`repeat:<scheduler>:<ms>`). */
function dueTimeOf({ id, timestamp }: Job): number {
  const [, ms] = /^repeat:.*:(\d+)$/.exec(id ?? "") ?? [];
  return ms === undefined ? timestamp : Number(ms);
}

function isSame(a: ScheduleTiming, b: ScheduleTiming): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function readTiming(
  { cron, timeZone, every }: ScheduleRequest,
  agentTimeZone: string,
  nowMs: number,
): ScheduleTiming {
  if ((cron === undefined) === (every === undefined))
    throw new InvalidScheduleError("cron", "either cron or every");
  if (every !== undefined) {
    if (timeZone !== undefined) throw new InvalidScheduleError("timeZone", "only with cron");
    const parsed = everySchema.safeParse(every);
    if (!parsed.success)
      throw new InvalidScheduleError("every", parsed.error.issues[0]?.message ?? "a duration");
    return { everyMs: parsed.data };
  }
  const zone = timeZoneSchema.safeParse(timeZone ?? agentTimeZone);
  if (!zone.success)
    throw new InvalidScheduleError("timeZone", zone.error.issues[0]?.message ?? "a time zone");
  const timing = { cron: (cron ?? "").trim(), timeZone: zone.data };
  checkCron(timing, nowMs);
  return timing;
}

function checkCron(
  { cron, timeZone }: { readonly cron: string; readonly timeZone: string },
  nowMs: number,
): void {
  const expected =
    'five fields such as "0 9 * * 1-5": minute, hour, day of the month, month, day of the week';
  if (cron.length > CRON_MAX_LENGTH || !CRON.test(cron)) throw new InvalidScheduleError("cron", expected);
  let next: number | undefined;
  try {
    next = getNextMillis(nowMs, { pattern: cron, tz: timeZone });
  } catch (error) {
    throw new InvalidScheduleError("cron", `${expected} (${(error as Error).message})`);
  }
  if (next === undefined) throw new InvalidScheduleError("cron", "a time that comes");
}
