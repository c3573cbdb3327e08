import type { Cluster, Redis } from "ioredis";
import { z } from "zod";
import { LongshoreError } from "./errors.ts";
import { schedulesKey } from "./keys.ts";
import { messageSchema } from "./message.ts";
import { nameSchema } from "./names.ts";
import { Script } from "./script.ts";

const putSchedule = new Script("put-schedule");

/** Most schedules of a tenant. */
export const SCHEDULES_MAX = 200;
/** Bytes of the text of a schedule's message. */
export const SCHEDULE_TEXT_MAX_BYTES = 16 * 1024;

/** What is sent at each time: a message without an id of its own, and without attachments. */
export const scheduledMessageSchema = messageSchema
  .pick({ agent: true, channel: true, conversation: true, thread: true, metadata: true })
  .extend({
    sender: messageSchema.shape.sender.default({ id: "schedule" }),
    kind: messageSchema.shape.kind.unwrap().default("task"),
    text: z.string().refine((text) => Buffer.byteLength(text) <= SCHEDULE_TEXT_MAX_BYTES, {
      error: `at most ${SCHEDULE_TEXT_MAX_BYTES} bytes`,
    }),
  });

/** When a schedule is due. */
export const scheduleTimingSchema = z.union([
  z.strictObject({ cron: z.string(), timeZone: z.string() }),
  z.strictObject({ everyMs: z.int().positive() }),
  /** Once. */
  z.strictObject({ at: z.iso.datetime() }),
]);
export type ScheduleTiming = z.output<typeof scheduleTimingSchema>;

/** A message that is sent again and again. */
export const scheduleSchema = z.strictObject({
  /** Unique within its tenant. */
  id: nameSchema,
  timing: scheduleTimingSchema,
  message: scheduledMessageSchema,
  createdAt: z.iso.datetime(),
  /** The session whose agent made it. */
  madeBy: z.string().optional(),
  /** True: it is not due before somebody lets it go on. */
  paused: z.literal(true).optional(),
});
export type Schedule = z.output<typeof scheduleSchema>;

/** The tenant, or the session, has as many schedules as it may. */
export class TooManySchedulesError extends LongshoreError {
  constructor(most: number) {
    super("TOO_MANY_SCHEDULES", `There may be ${most} schedules`);
  }
}

/** The schedules of tenants, in Redis: what is due when, and what is sent then. */
export class ScheduleBook {
  readonly #redis: Redis | Cluster;

  constructor(redis: Redis | Cluster) {
    this.#redis = redis;
  }

  /** @returns true where there was none of its id. @throws TooManySchedulesError */
  async put(tenant: string, schedule: Schedule): Promise<boolean> {
    const code = await putSchedule.run(
      this.#redis,
      [schedulesKey(tenant)],
      [schedule.id, JSON.stringify(schedule), SCHEDULES_MAX],
    );
    if (code === -1) throw new TooManySchedulesError(SCHEDULES_MAX);
    return code === 1;
  }

  async find(tenant: string, id: string): Promise<Schedule | undefined> {
    const text = await this.#redis.hget(schedulesKey(tenant), id);
    return text === null ? undefined : scheduleSchema.parse(JSON.parse(text));
  }

  /** All of a tenant's, by id. */
  async list(tenant: string): Promise<Schedule[]> {
    const texts = await this.#redis.hvals(schedulesKey(tenant));
    const schedules = texts.map((text) => scheduleSchema.parse(JSON.parse(text)));
    return schedules.sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** @returns false where there is none (any more) */
  async remove(tenant: string, id: string): Promise<boolean> {
    return (await this.#redis.hdel(schedulesKey(tenant), id)) === 1;
  }
}
