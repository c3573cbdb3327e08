import { type DueSchedule, nameSchema, scheduledMessageSchema } from "@longshore/shared";
import { z } from "zod";
import { problemSchema } from "../problem.ts";
import { type Api, type RouteParts, tenantOf } from "../route-parts.ts";

const scheduleViewSchema = z.object({
  id: z.string(),
  cron: z.string().optional(),
  timeZone: z.string().optional(),
  /** How often, in seconds. */
  everySeconds: z.number().optional(),
  /** When, where it is for once. */
  at: z.string().optional(),
  /** When it is due next; absent for a moment while it is being due, and while it is paused. */
  nextAt: z.string().optional(),
  createdAt: z.string(),
  /** The session whose agent made it. */
  madeBy: z.string().optional(),
  paused: z.boolean().optional(),
  message: scheduledMessageSchema,
});

function view({
  id,
  timing,
  message,
  createdAt,
  madeBy,
  paused,
  nextMs,
}: DueSchedule): z.output<typeof scheduleViewSchema> {
  return {
    id,
    ...("everyMs" in timing ? { everySeconds: timing.everyMs / 1_000 } : timing),
    ...(nextMs === undefined ? {} : { nextAt: new Date(nextMs).toISOString() }),
    ...(madeBy === undefined ? {} : { madeBy }),
    ...(paused ? { paused } : {}),
    ...{ createdAt, message },
  };
}

export function scheduleRoutes(app: Api, { schedules }: RouteParts): void {
  app.get(
    "/v1/schedules",
    {
      config: { scope: "read" },
      schema: {
        summary: "The tenant's schedules, and when each is due next",
        response: {
          200: z.object({ schedules: z.array(scheduleViewSchema) }),
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request) => ({ schedules: (await schedules.list(tenantOf(request))).map(view) }),
  );

  app.post(
    "/v1/schedules",
    {
      config: { scope: "operate" },
      schema: {
        summary: "Send a message at set times",
        description:
          "One of `cron` (five fields; `timeZone` is the agent's by default), `every` (a duration such as `15m`, from " +
          "`1m`) and `at` (once, at a time at most a year ahead). A schedule of the same id is replaced; one that is `paused` is " +
          "kept, and not due until it is replaced.",
        body: z.strictObject({
          id: nameSchema,
          cron: z.string().optional(),
          timeZone: z.string().optional(),
          every: z.string().optional(),
          at: z.string().optional(),
          paused: z.boolean().optional(),
          message: scheduledMessageSchema,
        }),
        response: {
          200: scheduleViewSchema,
          201: scheduleViewSchema,
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request, reply) => {
      const { schedule, created } = await schedules.put(tenantOf(request), request.body);
      return reply.code(created ? 201 : 200).send(view(schedule));
    },
  );

  app.delete(
    "/v1/schedules/:id",
    {
      config: { scope: "operate" },
      schema: {
        summary: "Remove a schedule",
        params: z.object({ id: z.string().max(64) }),
        response: { 204: z.undefined(), "4xx": problemSchema, "5xx": problemSchema },
      },
    },
    async (request, reply) => {
      await schedules.remove(tenantOf(request), request.params.id);
      return reply.code(204).send();
    },
  );
}
