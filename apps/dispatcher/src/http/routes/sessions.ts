import type { Commit, TableDelta } from "@longshore/session-store";
import { commitNoteSchema, sessionUsageSchema } from "@longshore/shared";
import { z } from "zod";
import { followEvents } from "../../follow-events.ts";
import { activityOf, sessionActivitySchema } from "../../session-activity.ts";
import { listSessions, sessionSummarySchema, summarizeSession } from "../../session-list.ts";
import { checkOwned } from "../owned-session.ts";
import { problemSchema } from "../problem.ts";
import { type Api, type RouteParts, requestSignal, sendRaw, tenantOf } from "../route-parts.ts";
import { eventStreamBody, eventStreamHeaders, type ServerSentEvent } from "../server-sent-events.ts";
import { sessionParams } from "../session-params.ts";

const generationSchema = z.object({
  generation: z.int(),
  parent: z.int(),
  id: z.string(),
  kind: z.string(),
  partial: z.boolean(),
  time: z.string(),
  worker: z.string(),
  epoch: z.int(),
  /** Files, directories and links, and bytes of their content. */
  entries: z.int(),
  totalBytes: z.int(),
  /** Files and links that it set, and paths that it removed; absent where they are too many for its record. */
  changed: z.object({ set: z.int(), removed: z.int() }).optional(),
  /** The messages that it ended, and how; of an upload or a rollback, that it was one. */
  ends: z.array(z.object({ messageId: z.string(), outcome: z.string(), operation: z.string().optional() })),
  replies: z.int(),
});

function viewGeneration(commit: Commit): z.output<typeof generationSchema> {
  const note = commitNoteSchema.safeParse(commit.note).data;
  const { generation, parent, id, kind, partial, time, worker, epoch, entries, totalBytes, delta } = commit;
  return {
    ...{ generation, parent, id, kind, partial, time, worker, epoch, entries, totalBytes },
    ...(delta === undefined ? {} : { changed: countChanges(delta) }),
    ends: (note?.ends ?? []).map(({ message, outcome }) => ({
      ...{ messageId: message.id, outcome },
      ...(message.operation === undefined ? {} : { operation: message.operation.type }),
    })),
    replies: note?.replies.length ?? 0,
  };
}

/** Without directories: one that was written to has another time, and is no change that anybody made. */
function countChanges({ set, removed }: TableDelta): { readonly set: number; readonly removed: number } {
  return { set: set.filter(({ type }) => type !== "directory").length, removed: removed.length };
}

const eventId = z.string().regex(/^(?:0|\d{1,16}-\d{1,20})$/, { error: "the id of an event" });

export function sessionRoutes(app: Api, parts: RouteParts): void {
  const { state, store, redis, access, hub, closing, slots, clock } = parts;

  app.get(
    "/v1/sessions",
    {
      config: { scope: "read" },
      schema: {
        summary: "The tenant's sessions, latest activity first",
        querystring: z.strictObject({
          limit: z.coerce.number().int().min(1).max(100).default(50),
          cursor: z.string().max(64).optional(),
        }),
        response: {
          200: z.object({ sessions: z.array(sessionSummarySchema), cursor: z.string().optional() }),
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request, reply) => {
      const { limit, cursor } = request.query;
      const tenant = tenantOf(request);
      const signal = requestSignal(reply, closing);
      const page = await listSessions(redis, tenant, { limit, cursor });
      const sessions = await Promise.all(
        page.sessions.map((session) => summarizeSession(parts, tenant, session, signal)),
      );
      return { sessions, ...(page.cursor === undefined ? {} : { cursor: page.cursor }) };
    },
  );

  app.get(
    "/v1/sessions/:sessionId",
    {
      config: { scope: "read" },
      schema: {
        summary: "A session",
        params: sessionParams,
        response: {
          200: z.object({
            sessionId: z.string(),
            agent: z.string().optional(),
            waiting: z.int(),
            undelivered: z.int(),
            active: z.boolean(),
            ...sessionActivitySchema.shape,
            /** The newest generation; absent where none was committed. */
            newest: generationSchema.optional(),
            /** What its agents reported; absent where they reported nothing. */
            usage: sessionUsageSchema.optional(),
            /** Replies that could not be delivered. */
            deadReplies: z.array(
              z.object({
                replyId: z.string(),
                channel: z.string(),
                conversation: z.string(),
                error: z.object({ code: z.string(), message: z.string() }),
                attempts: z.int(),
                diedAt: z.string(),
              }),
            ),
          }),
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request, reply) => {
      const signal = requestSignal(reply, closing);
      const { sessionId } = request.params;
      const tenant = tenantOf(request);
      await checkOwned(access, { tenant, sessionId }, signal);
      const [summary, newest, dead] = await Promise.all([
        state.inspect(sessionId),
        store.readNewest({ tenant, sessionId }, signal),
        state.readDeadReplies(sessionId),
      ]);
      const note = commitNoteSchema.safeParse(newest?.note).data;
      const agent = summary.agent ?? note?.agent;
      return {
        sessionId,
        ...(agent === undefined ? {} : { agent }),
        waiting: summary.waiting,
        undelivered: summary.undelivered,
        active: summary.leasedBy !== undefined,
        ...activityOf(summary, clock.now()),
        ...(newest === undefined ? {} : { newest: viewGeneration(newest) }),
        ...(note?.usage === undefined ? {} : { usage: note.usage }),
        deadReplies: dead.map(({ reply: { id, channel, conversation }, error, attempts, diedAt }) => ({
          ...{ replyId: id, channel, conversation, error, attempts },
          diedAt: new Date(diedAt).toISOString(),
        })),
      };
    },
  );

  app.get(
    "/v1/sessions/:sessionId/generations",
    {
      config: { scope: "read" },
      schema: {
        summary: "A session's generations, newest first",
        params: sessionParams,
        querystring: z.strictObject({
          limit: z.coerce.number().int().min(1).max(100).default(20),
          before: z.coerce.number().int().min(1).max(Number.MAX_SAFE_INTEGER).optional(),
        }),
        response: {
          200: z.object({ generations: z.array(generationSchema) }),
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request, reply) => {
      const signal = requestSignal(reply, closing);
      const { sessionId } = request.params;
      const tenant = tenantOf(request);
      await checkOwned(access, { tenant, sessionId }, signal);
      const { limit, before } = request.query;
      const commits = await store.listCommits(
        { tenant, sessionId },
        { limit, ...(before === undefined ? {} : { before }) },
        signal,
      );
      return { generations: commits.map(viewGeneration) };
    },
  );

  app.get(
    "/v1/sessions/:sessionId/events",
    {
      // HEAD would read the stream to an end that it has not.
      exposeHeadRoute: false,
      config: { scope: "read" },
      schema: {
        summary: "What happens in a session, as server-sent events",
        description:
          "First the events that are kept, or those after `Last-Event-ID`; then those to come. `gap` comes first where that one is not kept any more.",
        params: sessionParams,
        querystring: z.strictObject({ from: z.enum(["oldest", "now"]).default("oldest") }),
        headers: z.object({ "last-event-id": eventId.optional() }),
        response: { "4xx": problemSchema, "5xx": problemSchema },
      },
    },
    async (request, reply) => {
      const { sessionId } = request.params;
      const tenant = tenantOf(request);
      const signal = requestSignal(reply, closing);
      await checkOwned(access, { tenant, sessionId }, signal);
      const start = request.query.from === "now" ? await state.newestEventId(sessionId) : "0";
      const last = request.headers["last-event-id"];
      const isGap = last !== undefined && last !== "0" && !(await state.hasEvent(sessionId, last));
      const after = last ?? start;
      reply.raw.once("close", slots.take(tenant));
      return sendRaw(
        reply.headers(eventStreamHeaders),
        eventStreamBody(sessionEvents({ state, hub, sessionId, after, signal }, isGap), clock),
      );
    },
  );
}

async function* sessionEvents(
  options: Parameters<typeof followEvents>[0],
  isGap: boolean,
): AsyncGenerator<ServerSentEvent | undefined, void> {
  if (isGap) yield { event: "gap", data: { after: options.after } };
  for await (const followed of followEvents(options)) {
    yield followed && { id: followed.id, event: followed.event.type, data: followed.event };
  }
  yield { event: "end", data: { reason: "shutdown" } };
}
