import { Readable } from "node:stream";
import { ObjectNotFoundError } from "@longshore/session-store";
import { z } from "zod";
import { ApiError } from "../api-error.ts";
import { checkOwned } from "../owned-session.ts";
import { problemSchema } from "../problem.ts";
import { type Api, type RouteParts, requestSignal, sendRaw, tenantOf } from "../route-parts.ts";
import { sessionParams } from "../session-params.ts";

const logId = z.string().regex(/^\d{15}-[a-z2-7]{1,64}$/, { error: "as a list gives it" });

/** What attempts at turns left for whoever has to find out why. */
export function turnLogRoutes(app: Api, { store, access, closing }: RouteParts): void {
  app.get(
    "/v1/sessions/:sessionId/turn-logs",
    {
      config: { scope: "read" },
      schema: {
        summary: "The logs of a session's turns, newest first",
        params: sessionParams,
        querystring: z.strictObject({
          limit: z.coerce.number().int().min(1).max(1_000).default(50),
          cursor: logId.optional(),
        }),
        response: {
          200: z.object({
            turnLogs: z.array(
              z.object({
                id: z.string(),
                turnId: z.string(),
                startedAt: z.string(),
                sizeBytes: z.int(),
              }),
            ),
            cursor: z.string().optional(),
          }),
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request, reply) => {
      const ref = { tenant: tenantOf(request), sessionId: request.params.sessionId };
      const { limit, cursor } = request.query;
      const signal = requestSignal(reply, closing);
      await checkOwned(access, ref, signal);
      const { logs, more } = await store.listTurnLogs(ref, { limit, after: cursor }, signal);
      const last = logs.at(-1);
      return {
        turnLogs: logs.map(({ startedMs, ...log }) => ({
          ...log,
          startedAt: new Date(startedMs).toISOString(),
        })),
        ...(more && last !== undefined ? { cursor: last.id } : {}),
      };
    },
  );

  app.get(
    "/v1/sessions/:sessionId/turn-logs/:logId",
    {
      config: { scope: "read" },
      schema: {
        summary: "The log of an attempt at a turn: a line of JSON for each event",
        params: sessionParams.extend({ logId }),
        response: { "4xx": problemSchema, "5xx": problemSchema },
      },
    },
    async (request, reply) => {
      const ref = { tenant: tenantOf(request), sessionId: request.params.sessionId };
      const signal = requestSignal(reply, closing);
      await checkOwned(access, ref, signal);
      const log = await store.openTurnLog(ref, request.params.logId, signal).catch((error: unknown) => {
        if (!(error instanceof ObjectNotFoundError)) throw error;
        throw new ApiError(404, "TURN_LOG_NOT_FOUND", "There is no such log (any more)");
      });
      reply.headers({
        "content-type": "application/x-ndjson",
        "content-length": String(log.sizeBytes),
        "cache-control": "private, no-cache",
      });
      return sendRaw(reply, Readable.from(log.stream(), { objectMode: false }));
    },
  );
}
