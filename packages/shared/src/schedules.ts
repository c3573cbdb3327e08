import { getNextMillis, type Job, type Queue } from "bullmq";
import { z } from "zod";
import type { Clock } from "./clock.ts";
import type { Configuration } from "./configuration-schema.ts";
import { LongshoreError } from "./errors.ts";
import { type InputProblem, MessageTooLargeError } from "./message-errors.ts";
import { routeMessage } from "./routing.ts";
import {
  SCHEDULE_TEXT_MAX_BYTES,
  type Schedule,
  type ScheduleBook,
  type ScheduleTiming,
  type scheduledMessageSchema,
} from "./schedule-book.ts";
import { timeZoneSchema } from "./time-zone.ts";
import { duration } from "./units.ts";

const JOB_NAME = "schedule";
/** How the ids of jobs begin that are due once: `once/<tenant>/<schedule>/<ms>`. */
const ONCE = "once/";
const everySchema = duration({ min: "1m", max: "365d" });
/** Five fields; none of them the `H` of some crons, which is another time with each reading. */
const CRON = /^(?!.*\bH\b)[0-9A-Za-z*,/#?-]+(?: +[0-9A-Za-z*,/#?-]+){4}$/;
const CRON_MAX_LENGTH = 128;
/** How far ahead a time may be, in ms. */
const AT_MAX_MS = 365 * 24 * 3_600_000;

/** The data of a scheduled job: what is sent is in the book. */
export const scheduledJobSchema = z.strictObject({
  schedule: z.strictObject({ tenant: z.string(), id: z.string() }),
});

/** What a schedule is asked for with: `cron` (with a `timeZone`, by default its agent's), `every`, or `at`. */
export interface ScheduleRequest {
  readonly id: string;
  readonly cron?: string | undefined;
  readonly timeZone?: string | undefined;
  readonly every?: string | undefined;
  /** ISO 8601 with an offset. */
  readonly at?: string | undefined;
  /** The session whose agent asks. */
  readonly madeBy?: string | undefined;
  /** Not due until it is put again without this. @default false */
  readonly paused?: boolean | undefined;
  readonly message: z.output<typeof scheduledMessageSchema>;
}

/** A schedule and when it is due next; undefined for a moment, while it is being due, and while it is paused. */
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
}

/**
 * Messages that are sent at set times. The book says what and when; a job scheduler of BullMQ on `inbound` is the clock,
 * with one delayed job for the next time, which the consumer of `inbound` turns into a message; for what is sent once, such
 * a job alone. A schedule is:
 *
 * - **kept** (in the book) → ticking, when its job scheduler is made. Killed in between: the keeper makes it.
 * - **ticking** → due, at its time: its message is accepted, under an id of the schedule's id and that time, and the job
 *   for the next one is made. Where no dispatcher ran, one job is overdue, whatever was missed: it is sent once, under
 *   the time that was missed first.
 * - **stopped** (its job was removed from a dashboard, or the queue was drained) → ticking, by the keeper, within a minute.
 * - **sent**, where that was once: its entry in the book goes after its message was accepted, or left out.
 * - **paused** (kept, and without a job) → ticking, when it is put again.
 * - **removed**: first its job scheduler, then its entry in the book. What the keeper made again in between is over when
 *   it is due: the book does not know it.
 */
export class Schedules {
  readonly #options: SchedulesOptions;

  constructor(options: SchedulesOptions) {
    this.#options = options;
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
    const { book, clock, configuration } = this.#options;
    const { id, message } = request;
    const { agent } = routeMessage(configuration(), { tenant, ...message });
    const textBytes = Buffer.byteLength(message.text);
    const textMax = Math.min(agent.limits.message, SCHEDULE_TEXT_MAX_BYTES);
    if (textBytes > textMax) throw new MessageTooLargeError("text", textBytes, textMax, "bytes");
    const timing = readTiming(request, agent.timeZone, clock.now());
    const before = await book.find(tenant, id);
    const createdAt = new Date(clock.now()).toISOString();
    const made = request.madeBy === undefined ? {} : { madeBy: request.madeBy };
    const schedule: Schedule = {
      id,
      timing,
      message,
      createdAt,
      ...made,
      ...(request.paused ? { paused: true } : {}),
    };
    const created = await book.put(tenant, schedule);
    // What a job scheduler had before would stay in it otherwise.
    const stops = schedule.paused === true || (before !== undefined && !isSame(before.timing, timing));
    if (before !== undefined && stops) await this.#stop(tenant, before);
    await this.ensure(tenant, schedule);
    return { schedule: await this.#describe(tenant, schedule), created };
  }

  /** A tenant's schedules, or those of them that are wanted, by id. */
  async list(tenant: string, isWanted: (schedule: Schedule) => boolean = () => true): Promise<DueSchedule[]> {
    const schedules = (await this.#options.book.list(tenant)).filter(isWanted);
    return await Promise.all(schedules.map((schedule) => this.#describe(tenant, schedule)));
  }

  /** @throws ScheduleNotFoundError */
  async remove(tenant: string, id: string): Promise<void> {
    const { book } = this.#options;
    const schedule = await book.find(tenant, id);
    if (schedule === undefined) throw new ScheduleNotFoundError();
    await this.#stop(tenant, schedule);
    if (!(await book.remove(tenant, id))) throw new ScheduleNotFoundError();
  }

  /**
   * What is to be sent for a job that is due; undefined where its schedule was removed, or set to another time, and is over.
   *
   * @param job.data as `scheduledJobSchema` says
   */
  async due(job: Job): Promise<{ readonly id: string; readonly schedule: Schedule } | undefined> {
    const { tenant, id } = scheduledJobSchema.parse(job.data).schedule;
    const { book, inbound } = this.#options;
    const schedule = await book.find(tenant, id);
    if (schedule?.paused) return undefined;
    if (schedule === undefined || isOnce(job) !== "at" in schedule.timing) {
      if (!isOnce(job)) await inbound.removeJobScheduler(schedulerIdOf(tenant, id));
      return undefined;
    }
    if ("at" in schedule.timing && dueTimeOf(job) !== Date.parse(schedule.timing.at)) return undefined;
    return { id: `${id}@${new Date(dueTimeOf(job)).toISOString()}`, schedule };
  }

  /** What was sent for a job is accepted: a schedule that was for once is over. */
  async sent(job: Job): Promise<void> {
    const { tenant, id } = scheduledJobSchema.parse(job.data).schedule;
    if (isOnce(job)) await this.#forget(tenant, id, dueTimeOf(job));
  }

  /** Makes a schedule tick where it does not, and should. @returns whether it did not */
  async ensure(tenant: string, schedule: Schedule): Promise<boolean> {
    const { inbound, clock } = this.#options;
    const { id, timing, paused } = schedule;
    if (paused) return false;
    if ("at" in timing) return await this.#ensureOnce(tenant, id, Date.parse(timing.at));
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

  async #ensureOnce(tenant: string, id: string, atMs: number): Promise<boolean> {
    const { inbound, clock } = this.#options;
    const jobId = `${ONCE}${schedulerIdOf(tenant, id)}/${atMs}`;
    const state = await inbound.getJobState(jobId);
    // Whoever had the job in hand died before the book knew, or it was left out.
    if (state === "completed" || state === "failed") await this.#forget(tenant, id, atMs);
    if (state !== "unknown") return false;
    const delay = Math.max(0, atMs - clock.now());
    await inbound.add(JOB_NAME, { schedule: { tenant, id } }, { jobId, delay });
    return true;
  }

  /** Takes a schedule for once out of the book; not what was set under its id since. */
  async #forget(tenant: string, id: string, atMs: number): Promise<void> {
    const { book } = this.#options;
    const timing = (await book.find(tenant, id))?.timing;
    if (timing !== undefined && "at" in timing && Date.parse(timing.at) === atMs)
      await book.remove(tenant, id);
  }

  /** Removes what makes it tick. */
  async #stop(tenant: string, { id, timing }: Schedule): Promise<void> {
    const { inbound } = this.#options;
    const schedulerId = schedulerIdOf(tenant, id);
    if ("at" in timing) await inbound.remove(`${ONCE}${schedulerId}/${Date.parse(timing.at)}`);
    else await inbound.removeJobScheduler(schedulerId);
  }

  async #isPending(jobId: string): Promise<boolean> {
    const state = await this.#options.inbound.getJobState(jobId);
    return state !== "unknown" && state !== "completed" && state !== "failed";
  }

  async #describe(tenant: string, schedule: Schedule): Promise<DueSchedule> {
    if (schedule.paused) return { ...schedule, nextMs: undefined };
    if ("at" in schedule.timing) return { ...schedule, nextMs: Date.parse(schedule.timing.at) };
    const scheduler = await this.#options.inbound.getJobScheduler(schedulerIdOf(tenant, schedule.id));
    return { ...schedule, nextMs: scheduler?.next };
  }
}

/** Names hold no `/`. */
function schedulerIdOf(tenant: string, id: string): string {
  return `${tenant}/${id}`;
}

function isOnce({ id }: Job): boolean {
  return id?.startsWith(ONCE) === true;
}

/** The time that an occurrence was due: at the end of its job's id (BullMQ's own: `repeat:<scheduler>:<ms>`). */
function dueTimeOf({ id, timestamp }: Job): number {
  const [, ms] = /[:/](\d+)$/.exec(id ?? "") ?? [];
  return ms === undefined ? timestamp : Number(ms);
}

function isSame(a: ScheduleTiming, b: ScheduleTiming): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function readTiming(
  { cron, timeZone, every, at }: ScheduleRequest,
  agentTimeZone: string,
  nowMs: number,
): ScheduleTiming {
  if ([cron, every, at].filter((given) => given !== undefined).length !== 1)
    throw new InvalidScheduleError("cron", "one of cron, every and at");
  if (cron === undefined && timeZone !== undefined)
    throw new InvalidScheduleError("timeZone", "only with cron");
  if (at !== undefined) {
    const ms = z.iso.datetime({ offset: true }).safeParse(at).success ? Date.parse(at) : Number.NaN;
    if (!(ms > nowMs && ms <= nowMs + AT_MAX_MS))
      throw new InvalidScheduleError(
        "at",
        "a time to come, at most a year ahead, such as 2026-01-31T09:00:00+01:00",
      );
    return { at: new Date(ms).toISOString() };
  }
  if (every !== undefined) {
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
