import { z } from "zod";
import { problemSchema } from "../problem.ts";
import type { Api, RouteParts } from "../route-parts.ts";

const STATES = ["waiting", "active", "delayed", "prioritized", "completed", "failed"] as const;

const workerSchema = z.object({
  workerId: z.string(),
  host: z.string(),
  startedAt: z.string(),
  reportedAt: z.string(),
  places: z.int(),
  /** It takes no new work and ends. */
  draining: z.boolean(),
  /** Activations by their state. */
  activations: z.record(z.string(), z.int()),
  /** Which sessions these are; only for the fleet's operators. */
  sessions: z.array(z.object({ sessionId: z.string(), state: z.string() })).optional(),
});

/** The fleet as a whole: who works, and what waits. */
export function fleetRoutes(app: Api, { workers, queues }: RouteParts): void {
  app.get(
    "/v1/workers",
    {
      config: { operator: true },
      schema: {
        summary: "The workers that were heard of in the last 15 seconds",
        response: {
          200: z.object({ workers: z.array(workerSchema) }),
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request) => {
      const isFleetOperator = request.identity?.tenant === undefined;
      const reports = await workers.list();
      return {
        workers: reports.map(({ activations, ...report }) => ({
          ...report,
          activations: countStates(activations),
          ...(isFleetOperator ? { sessions: activations } : {}),
        })),
      };
    },
  );

  app.get(
    "/v1/queues",
    {
      config: { operator: true },
      schema: {
        summary: "Jobs by queue and state",
        response: {
          200: z.object({
            queues: z.array(z.object({ name: z.string(), jobs: z.record(z.string(), z.int()) })),
          }),
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async () => ({
      queues: await Promise.all(
        queues.map(async (queue) => ({ name: queue.name, jobs: await queue.getJobCounts(...STATES) })),
      ),
    }),
  );
}

function countStates(activations: readonly { readonly state: string }[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { state } of activations) counts[state] = (counts[state] ?? 0) + 1;
  return counts;
}
