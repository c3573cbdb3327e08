import { OPERATION_MAX_BYTES, operationSchema, uploadSchema } from "@longshore/shared";
import { z } from "zod";
import { ApiError } from "../api-error.ts";
import {
  acceptedOperationSchema,
  appliedOperationSchema,
  readOrigin,
  runOperation,
  waitQuery,
} from "../operations.ts";
import { problemSchema } from "../problem.ts";
import { type Api, type RouteParts, requestSignal, tenantOf } from "../route-parts.ts";
import { sessionParams } from "../session-params.ts";

/** Hashes that a refusal names. Whoever uploads these and asks again is told the next. */
const MISSING_MAX = 100_000;

/** What a push changes. */
const pushSchema = uploadSchema.omit({ type: true }).extend({
  set: uploadSchema.shape.set.default([]),
  remove: uploadSchema.shape.remove.default([]),
});

/** Many changes of a session's files as one commit. */
export function pushRoutes(app: Api, parts: RouteParts): void {
  const { store, closing } = parts;
  app.post(
    "/v1/sessions/:sessionId/push",
    {
      config: { scope: "operate", bodyBytes: OPERATION_MAX_BYTES },
      schema: {
        summary: "Change many files of a session by one commit, in order with its messages",
        description:
          "Contents are uploaded before, by `PUT .../uploads/{sha256}`; where some are missing, the answer is 409 " +
          "`UPLOADS_MISSING` with their hashes, and nothing was done. First all paths of `remove` go, then " +
          "directories, files and links are set. Paths are from the session directory.",
        params: sessionParams,
        querystring: z.strictObject({ wait: waitQuery }),
        body: pushSchema,
        response: {
          200: appliedOperationSchema,
          202: acceptedOperationSchema,
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request, reply) => {
      const ref = { tenant: tenantOf(request), sessionId: request.params.sessionId };
      const parsed = operationSchema.safeParse({ type: "upload", ...request.body });
      if (!parsed.success)
        throw new ApiError(400, "INVALID_REQUEST", "The body is not valid", {
          problems: parsed.error.issues.map(({ path, message }) => ({
            where: path.join("."),
            problem: message,
          })),
        });
      const signal = requestSignal(reply, closing);
      const origin = await readOrigin(parts, ref, signal);
      const wanted = new Set(request.body.set.map(({ sha256 }) => sha256));
      const kept = await store.findInbound(ref, wanted, signal);
      const missing = [...wanted].filter((sha256) => !kept.has(sha256));
      if (missing.length > 0)
        throw new ApiError(409, "UPLOADS_MISSING", `${missing.length} contents have to be uploaded first`, {
          missing: missing.slice(0, MISSING_MAX),
        });
      const { wait } = request.query;
      const { generation, ...accepted } = await runOperation(
        parts,
        { request, reply },
        ref,
        origin,
        parsed.data,
        wait,
      );
      if (generation === undefined) return reply.code(202).send(accepted);
      return reply.code(200).send({ ...accepted, generation });
    },
  );
}
