import { messageSchema } from "@longshore/shared";
import { z } from "zod";
import { isTransient } from "../../errors.ts";
import { followMessage } from "../../follow-message.ts";
import { isEnded, messageViewSchema } from "../../message-view.ts";
import { ApiError } from "../api-error.ts";
import type { JsonBodies } from "../json-body.ts";
import { readOwnedMessage } from "../owned-message.ts";
import { problemSchema } from "../problem.ts";
import { type Api, type RouteParts, requestSignal, sendRaw, tenantOf } from "../route-parts.ts";
import { eventStreamBody, eventStreamHeaders, type ServerSentEvent } from "../server-sent-events.ts";

/** The longest that `?wait=` may hold a request, in seconds. */
const WAIT_MAX_SECONDS = 300;

/** Where messages are sent to. */
export const MESSAGES_PATH = "/v1/messages";

const acceptedSchema = z.object({
  messageId: z.string(),
  sessionId: z.string(),
  /** Null while it waits for its `notBefore`. */
  seq: z.int().nullable(),
  duplicate: z.boolean(),
});
const waitedSchema = acceptedSchema.extend(messageViewSchema.shape);
const messageParams = z.object({ messageId: z.string().max(64) });

export function messageRoutes(app: Api, parts: RouteParts & { readonly bodies: JsonBodies }): void {
  const { acceptor, waiting, closing, slots, clock, bodies } = parts;

  app.post(
    MESSAGES_PATH,
    {
      config: { scope: "send" },
      schema: {
        summary: "Send a message",
        description:
          "Accepts a message durably. With `wait` the answer comes when the message has ended, or the time is " +
          "over (then with 202). With `Accept: text/event-stream` what happens is streamed until it has ended. " +
          "One that has a `notBefore` is answered at once with 202, and nothing is streamed of it.",
        body: messageSchema,
        querystring: z.strictObject({
          wait: z.coerce.number().int().min(1).max(WAIT_MAX_SECONDS).optional(),
        }),
        response: {
          200: waitedSchema,
          202: z.union([waitedSchema, acceptedSchema]),
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request, reply) => {
      const tenant = tenantOf(request);
      const { wait } = request.query;
      const streams = request.headers.accept?.includes("text/event-stream") ?? false;
      // Before the message is accepted: a refusal has to leave nothing.
      const free = streams || wait !== undefined ? slots.take(tenant) : undefined;
      if (free !== undefined) reply.raw.once("close", free);

      const bodyIsUsed = bodies.takeOver(request);
      const { messageId, sessionId, seq, duplicate } = await acceptor
        .accept(tenant, request.body)
        .finally(bodyIsUsed);
      // Else it would stay in memory for as long as the answer is waited for.
      (request as { body: unknown }).body = undefined;
      const accepted = { messageId, sessionId, seq, duplicate };
      if (streams) {
        const signal = requestSignal(reply, closing);
        const events = streamMessage(parts, tenant, accepted, signal);
        return sendRaw(reply.headers(eventStreamHeaders), eventStreamBody(events, clock));
      }
      if (wait === undefined || seq === null) return reply.code(202).send(accepted);

      const signal = AbortSignal.any([requestSignal(reply, closing), AbortSignal.timeout(wait * 1_000)]);
      for await (const _ of followMessage({ ...parts, messageId, signal }));
      const view = await readAccepted(() =>
        readOwnedMessage(parts, tenant, messageId, new AbortController().signal),
      );
      if (view === undefined) return reply.code(202).send(accepted);
      return reply.code(isEnded(view.state) ? 200 : 202).send({ ...accepted, ...view });
    },
  );

  app.get(
    "/v1/messages/:messageId",
    {
      config: { scope: "read" },
      schema: {
        summary: "A message, and its replies once it has ended",
        params: messageParams,
        response: { 200: messageViewSchema, "4xx": problemSchema, "5xx": problemSchema },
      },
    },
    async (request, reply) =>
      await readOwnedMessage(
        parts,
        tenantOf(request),
        request.params.messageId,
        requestSignal(reply, closing),
      ),
  );

  app.delete(
    "/v1/messages/:messageId",
    {
      config: { scope: "send" },
      schema: {
        summary: "Take back a message that waits for its time",
        params: messageParams,
        response: { 204: z.undefined(), "4xx": problemSchema, "5xx": problemSchema },
      },
    },
    async (request, reply) => {
      const tenant = tenantOf(request);
      const { messageId } = request.params;
      if (await waiting.cancel(tenant, messageId)) return reply.code(204).send();
      await readOwnedMessage(parts, tenant, messageId, requestSignal(reply, closing));
      throw new ApiError(409, "MESSAGE_NOT_WAITING", "The message does not wait for its time any more");
    },
  );
}

/** A message that was accepted stays so when looking at it fails for a moment. */
async function readAccepted<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (isTransient(error)) return undefined;
    throw error;
  }
}

/**
 * What a sender sees of its message: `message` with what the 202 says, the session's events that concern it,
 * a `reply` each, and `end` with the message as it is then and why the stream ends.
 */
async function* streamMessage(
  parts: RouteParts,
  tenant: string,
  accepted: z.output<typeof acceptedSchema>,
  signal: AbortSignal,
): AsyncGenerator<ServerSentEvent | undefined, void> {
  const { messageId } = accepted;
  yield { event: "message", data: accepted };
  if (accepted.seq === null) {
    yield { event: "end", data: { reason: "waiting" } };
    return;
  }
  for await (const followed of followMessage({ ...parts, messageId, signal })) {
    yield followed && { id: followed.id, event: followed.event.type, data: followed.event };
  }
  const view = await readAccepted(() => parts.views.read(tenant, messageId, new AbortController().signal));
  for (const reply of view?.replies ?? []) yield { event: "reply", data: reply };
  const reason = view !== undefined && isEnded(view.state) ? "ended" : "shutdown";
  yield { event: "end", data: { reason, ...(view === undefined ? {} : { message: view }) } };
}
