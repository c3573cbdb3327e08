import { randomUUID } from "node:crypto";
import type { SessionRef } from "@longshore/session-store";
import { identifierSchema, type Operation } from "@longshore/shared";
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { awaitOperation } from "../await-operation.ts";
import { findOrigin, type SessionOrigin } from "../session-origin.ts";
import { ApiError } from "./api-error.ts";
import { checkOwned } from "./owned-session.ts";
import { type RouteParts, requestSignal } from "./route-parts.ts";

/** The longest that `?wait=` may hold a request, in seconds. */
const WAIT_MAX_SECONDS = 300;

export const waitQuery = z.coerce.number().int().min(0).max(WAIT_MAX_SECONDS).default(30);

/** What an operation that is not applied yet is answered with. */
export const acceptedOperationSchema = z.object({
  /** To be asked for: `GET /v1/messages/{messageId}`. */
  messageId: z.string(),
  sessionId: z.string(),
  seq: z.int(),
  duplicate: z.boolean(),
});

/** What one that is applied is answered with. */
export const appliedOperationSchema = acceptedOperationSchema.extend({
  /** Made by it. */
  generation: z.int(),
});

export type AcceptedOperation = z.output<typeof acceptedOperationSchema> & { readonly generation?: number };

const keySchema = identifierSchema(256);

/** The sender's own id of a request, by which sending it again is harmless; a random one where it gives none. */
function idempotencyKey({ headers }: FastifyRequest): string {
  const given = headers["idempotency-key"];
  if (given === undefined) return randomUUID();
  const parsed = keySchema.safeParse(given);
  if (parsed.success) return parsed.data;
  throw new ApiError(400, "INVALID_REQUEST", "The headers are not valid", {
    problems: [{ where: "idempotency-key", problem: "1 to 256 characters, no control characters" }],
  });
}

/** A session of the tenant, and who its agent is. @throws ApiError `SESSION_NOT_FOUND`, `ORIGIN_UNKNOWN` */
export async function readOrigin(
  parts: RouteParts,
  ref: SessionRef,
  signal: AbortSignal,
): Promise<SessionOrigin> {
  await checkOwned(parts.access, ref, signal);
  const origin = await findOrigin(parts, ref, signal);
  if (origin === undefined)
    throw new ApiError(409, "ORIGIN_UNKNOWN", "Nothing is left that says where the session is talked to");
  return origin;
}

/**
 * Accepts an operation on a session, and waits until it is applied, or for so long. It is in order with the session's
 * messages: one that runs is not interrupted.
 *
 * @param request its `Idempotency-Key` is the operation's
 * @param waitSeconds 0: not at all
 * @returns without a generation where it is not applied yet
 * @throws OperationFailedError; what `Acceptor.acceptOperation` throws
 */
export async function runOperation(
  parts: RouteParts,
  { request, reply }: { readonly request: FastifyRequest; readonly reply: FastifyReply },
  ref: SessionRef,
  origin: SessionOrigin,
  operation: Operation,
  waitSeconds: number,
): Promise<AcceptedOperation> {
  const { acceptor, slots, closing } = parts;
  const key = idempotencyKey(request);
  // Before it is accepted: a refusal has to leave nothing.
  if (waitSeconds > 0) reply.raw.once("close", slots.take(ref.tenant));
  const sender = request.identity?.keyId ?? "api";
  const accepted = await acceptor.acceptOperation(ref, origin, sender, key, operation);
  const { messageId, sessionId, seq, duplicate } = accepted;
  const answer = { messageId, sessionId, seq, duplicate };
  if (waitSeconds === 0) return answer;
  const signal = AbortSignal.any([requestSignal(reply, closing), AbortSignal.timeout(waitSeconds * 1_000)]);
  const generation = await awaitOperation({ ...parts, messageId, signal });
  return generation === undefined ? answer : { ...answer, generation };
}
