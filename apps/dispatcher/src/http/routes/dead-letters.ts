import { z } from "zod";
import { problemSchema } from "../problem.ts";
import { type Api, type RouteParts, requestSignal, tenantOf } from "../route-parts.ts";

const deadLetterSchema = z.object({
  id: z.string(),
  /** A message that was given up on, or a reply that could not be delivered. */
  kind: z.enum(["message", "reply"]),
  sessionId: z.string(),
  agent: z.string().optional(),
  channel: z.string(),
  conversation: z.string(),
  thread: z.string().optional(),
  /** Who sent the message. */
  sender: z.string().optional(),
  /** The first 200 characters of its text. */
  excerpt: z.string(),
  error: z.object({ code: z.string(), message: z.string() }),
  /** Of the commit that ended the message, or holds the reply. */
  generation: z.int(),
  diedAt: z.string(),
});

const retriedSchema = z.union([
  z.object({
    kind: z.literal("message"),
    /** Of the message that it is now. */
    messageId: z.string(),
    sessionId: z.string(),
    duplicate: z.boolean(),
  }),
  z.object({
    kind: z.literal("reply"),
    replyId: z.string(),
    sessionId: z.string(),
    duplicate: z.boolean(),
  }),
]);

const deadLetterParams = z.object({ id: z.string().max(128) });

export function deadLetterRoutes(app: Api, { deadLetters, closing }: RouteParts): void {
  app.get(
    "/v1/dead-letters",
    {
      config: { scope: "read" },
      schema: {
        summary: "Messages that were given up on, and replies that could not be delivered; latest first",
        querystring: z.strictObject({
          limit: z.coerce.number().int().min(1).max(100).default(50),
          cursor: z.string().max(192).optional(),
        }),
        response: {
          200: z.object({ deadLetters: z.array(deadLetterSchema), cursor: z.string().optional() }),
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request) => {
      const { letters, cursor } = await deadLetters.page(tenantOf(request), request.query);
      return {
        deadLetters: letters.map(({ diedAt, ...letter }) => ({
          ...letter,
          diedAt: new Date(diedAt).toISOString(),
        })),
        ...(cursor === undefined ? {} : { cursor }),
      };
    },
  );

  app.post(
    "/v1/dead-letters/:id/retry",
    {
      config: { scope: "operate" },
      schema: {
        summary: "Try a dead letter again",
        description:
          "A message is accepted again, as a new one at the end of its session's mailbox; a reply goes back to its " +
          "place among those to be delivered. Done twice, it is done once.",
        params: deadLetterParams,
        response: { 202: retriedSchema, "4xx": problemSchema, "5xx": problemSchema },
      },
    },
    async (request, reply) => {
      const signal = requestSignal(reply, closing);
      return reply.code(202).send(await deadLetters.retry(tenantOf(request), request.params.id, signal));
    },
  );

  app.delete(
    "/v1/dead-letters/:id",
    {
      config: { scope: "operate" },
      schema: {
        summary: "Drop a dead letter",
        params: deadLetterParams,
        response: { 204: z.undefined(), "4xx": problemSchema, "5xx": problemSchema },
      },
    },
    async (request, reply) => {
      await deadLetters.drop(tenantOf(request), request.params.id);
      return reply.code(204).send();
    },
  );
}
