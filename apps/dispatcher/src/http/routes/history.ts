import { pathOf } from "@longshore/session-store";
import { identifierSchema } from "@longshore/shared";
import { z } from "zod";
import { changeViewSchema, diffTables } from "../../diff-view.ts";
import { forkSession } from "../../fork-session.ts";
import { ApiError } from "../api-error.ts";
import { base64Url, generationQuery } from "../file-path.ts";
import {
  acceptedOperationSchema,
  appliedOperationSchema,
  readOrigin,
  runOperation,
  waitQuery,
} from "../operations.ts";
import { checkOwned, readGeneration } from "../owned-session.ts";
import { problemSchema } from "../problem.ts";
import { type Api, type RouteParts, requestSignal, tenantOf } from "../route-parts.ts";
import { sessionParams } from "../session-params.ts";

const generation = z.int().min(1).max(Number.MAX_SAFE_INTEGER);
/** What a generation comes before whatever else: the empty directory. */
const fromQuery = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).optional();
/** Bodies of a few short fields, in bytes. */
const SMALL_BODY_BYTES = 16 * 1024;

/** Generations of a session against each other, and what begins from an old one. */
export function historyRoutes(app: Api, parts: RouteParts): void {
  const { store, access, closing } = parts;

  app.get(
    "/v1/sessions/:sessionId/diff",
    {
      config: { scope: "read" },
      schema: {
        summary: "What is different between two generations",
        params: sessionParams,
        querystring: z.strictObject({
          /** By default the one before `to`; 0: nothing. */
          from: fromQuery,
          /** By default the newest. */
          to: generationQuery,
          limit: z.coerce.number().int().min(1).max(10_000).default(1_000),
          cursor: base64Url.optional(),
        }),
        response: {
          200: z.object({
            from: z.int(),
            to: z.int(),
            /** Of all pages. */
            total: z.int(),
            changes: z.array(changeViewSchema),
            cursor: z.string().optional(),
          }),
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request, reply) => {
      const ref = { tenant: tenantOf(request), sessionId: request.params.sessionId };
      const { from, to, limit, cursor } = request.query;
      const signal = requestSignal(reply, closing);
      await checkOwned(access, ref, signal);
      const after = await readGeneration(store, ref, to, signal);
      if (after === undefined) return { from: 0, to: 0, total: 0, changes: [] };
      const first = from ?? after.parent;
      const before = first === 0 ? undefined : await store.readCommit(ref, first, signal);
      const [old, table] = await Promise.all([
        before && store.readTable(ref, before, signal),
        store.readTable(ref, after, signal),
      ]);
      const page = diffTables(old, table, {
        cursor: cursor === undefined ? "" : pathOf(Buffer.from(cursor, "base64url")),
        limit,
      });
      return {
        ...{ from: first, to: after.generation, total: page.total, changes: [...page.changes] },
        ...(page.cursor === undefined ? {} : { cursor: page.cursor }),
      };
    },
  );

  app.post(
    "/v1/sessions/:sessionId/rollback",
    {
      config: { scope: "operate", bodyBytes: SMALL_BODY_BYTES },
      schema: {
        summary: "Give a session the files of an earlier generation again, as a new one",
        description:
          "In order with the session's messages. A live agent is ended, since it would remember another past; the next " +
          "message starts it anew. Messages and replies stay as they are.",
        params: sessionParams,
        querystring: z.strictObject({ wait: waitQuery }),
        body: z.strictObject({ generation }),
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
      const signal = requestSignal(reply, closing);
      const origin = await readOrigin(parts, ref, signal);
      // What is not there now never will be; what is may be gone when its turn comes.
      await store.readCommit(ref, request.body.generation, signal);
      const operation = { type: "rollback" as const, generation: request.body.generation };
      const { generation: made, ...accepted } = await runOperation(
        parts,
        { request, reply },
        ref,
        origin,
        operation,
        request.query.wait,
      );
      if (made === undefined) return reply.code(202).send(accepted);
      return reply.code(200).send({ ...accepted, generation: made });
    },
  );

  app.post(
    "/v1/sessions/:sessionId/fork",
    {
      config: { scope: "operate", bodyBytes: SMALL_BODY_BYTES },
      schema: {
        summary: "Begin a session from a generation of another one",
        description:
          "The new session has the same agent and channel, and is that of the conversation (and thread) named, or of a " +
          "new one. No content is copied. Messages that wait and replies stay with the old session.",
        params: sessionParams,
        body: z.strictObject({
          /** By default the newest. */
          generation: generation.optional(),
          /** By default a new one. */
          conversation: identifierSchema(512).optional(),
          thread: identifierSchema(512).optional(),
        }),
        response: {
          201: z.object({
            sessionId: z.string(),
            generation: z.int(),
            agent: z.string(),
            channel: z.string(),
            conversation: z.string(),
            thread: z.string().optional(),
            source: z.object({ sessionId: z.string(), generation: z.int() }),
          }),
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request, reply) => {
      const ref = { tenant: tenantOf(request), sessionId: request.params.sessionId };
      const signal = requestSignal(reply, closing);
      const origin = await readOrigin(parts, ref, signal);
      const commit = await readGeneration(store, ref, request.body.generation, signal);
      if (commit === undefined)
        throw new ApiError(
          409,
          "NOTHING_COMMITTED",
          "Nothing was committed yet that a session could begin from",
        );
      const fork = await forkSession(parts, ref, origin, commit, request.body, signal);
      return reply.code(201).send({
        ...fork,
        source: { sessionId: ref.sessionId, generation: commit.generation },
      });
    },
  );
}
