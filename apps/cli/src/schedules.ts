import { scheduleListSchema, scheduleViewSchema } from "./api-schemas.ts";
import { type CommandContext, type GlobalOptions, openClient } from "./command-context.ts";
import type { MessageOptions } from "./outgoing-message.ts";
import { columns } from "./output.ts";
import { printableLine } from "./printable.ts";

/** Characters of a text that a line of the list shows. */
const EXCERPT_LENGTH = 40;

export interface AddScheduleOptions extends GlobalOptions, MessageOptions {
  readonly cron?: string;
  readonly timeZone?: string;
  readonly every?: string;
  readonly at?: string;
}

/** `longshore schedules ls`: the tenant's schedules, and when each is due next. */
export async function listSchedules(context: CommandContext, options: GlobalOptions): Promise<void> {
  const { signal } = context;
  const { schedules } = await openClient(context, options).get("/schedules", scheduleListSchema, { signal });
  context.output.result(schedules, () =>
    columns(
      schedules.map(({ id, cron, timeZone, everySeconds, at, nextAt, paused, message }) => [
        id,
        timingOf({ cron, timeZone, everySeconds, at }),
        paused ? "paused" : nextAt === undefined ? "due" : `next ${nextAt}`,
        message.agent,
        printableLine(`${message.channel}/${message.conversation}`),
        printableLine(message.text.slice(0, EXCERPT_LENGTH)),
      ]),
    ),
  );
}

function timingOf(schedule: {
  readonly cron: string | undefined;
  readonly timeZone: string | undefined;
  readonly everySeconds: number | undefined;
  readonly at: string | undefined;
}): string {
  const { cron, timeZone, everySeconds, at } = schedule;
  if (at !== undefined) return "once";
  return cron === undefined ? `every ${everySeconds ?? "?"} s` : `${cron} (${timeZone ?? "UTC"})`;
}

/** `longshore schedules add`: makes a schedule, or replaces that of the same id. */
export async function addSchedule(
  context: CommandContext,
  id: string,
  text: string,
  options: AddScheduleOptions,
): Promise<void> {
  const { agent, channel, conversation, thread, sender, cron, timeZone, every, at } = options;
  const body = {
    ...{ id, cron, timeZone, every, at },
    message: { agent, channel, conversation, thread, sender: { id: sender }, text },
  };
  const { signal } = context;
  const schedule = await openClient(context, options).post("/schedules", body, scheduleViewSchema, {
    signal,
  });
  context.output.result(schedule, () => `${id} is due at ${schedule.nextAt ?? "once"}\n`);
}

/** `longshore schedules rm`. */
export async function removeSchedule(
  context: CommandContext,
  id: string,
  options: GlobalOptions,
): Promise<void> {
  await openClient(context, options).delete(`/schedules/${encodeURIComponent(id)}`, {
    signal: context.signal,
  });
  context.output.result({ removed: id }, () => `${id} is removed\n`);
}
