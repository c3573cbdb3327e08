import { z } from "zod";
import type { Api, RouteParts } from "../route-parts.ts";

/** Whether the process lives, and whether it can do its work: the only answers without a key. */
export function healthRoutes(app: Api, { readiness }: RouteParts): void {
  app.get(
    "/healthz",
    {
      config: { open: true },
      schema: {
        summary: "Whether the process answers",
        security: [],
        response: { 200: z.object({ status: z.literal("ok") }) },
      },
    },
    async () => ({ status: "ok" as const }),
  );

  const readySchema = z.object({ ready: z.boolean(), reasons: z.array(z.string()) });
  app.get(
    "/readyz",
    {
      config: { open: true },
      schema: {
        summary: "Whether it can accept messages, and why not",
        security: [],
        response: { 200: readySchema, 503: readySchema },
      },
    },
    async (_request, reply) => {
      const reasons = [...(await readiness())];
      const ready = reasons.length === 0;
      return reply.code(ready ? 200 : 503).send({ ready, reasons });
    },
  );
}
