import type { IncomingMessage, ServerResponse } from "node:http";
import type { Readable } from "node:stream";
import type { SessionStore } from "@longshore/session-store";
import type {
  ArtifactLinks,
  Clock,
  Configuration,
  Logger,
  NotReady,
  RedisClient,
  Schedules,
  SessionState,
  TurnWakes,
  WorkerRegistry,
} from "@longshore/shared";
import type { Queue } from "bullmq";
import type { FastifyInstance, FastifyReply, FastifyRequest, RawServerDefault } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { Acceptor } from "../accept.ts";
import type { DeadLetterOffice } from "../dead-letter-office.ts";
import type { EventHub } from "../event-hub.ts";
import type { MessageViews } from "../message-view.ts";
import type { SessionAccess } from "../session-access.ts";
import type { WaitingMessages } from "../waiting-messages.ts";
import { ApiError } from "./api-error.ts";
import type { StreamSlots } from "./stream-slots.ts";
import type { UploadSpool } from "./upload-spool.ts";

export type Api = FastifyInstance<RawServerDefault, IncomingMessage, ServerResponse, Logger, ZodTypeProvider>;

/** What the routes work with. */
export interface RouteParts {
  readonly configuration: () => Configuration;
  readonly acceptor: Acceptor;
  readonly state: SessionState;
  readonly turnWakes: TurnWakes;
  readonly store: SessionStore;
  readonly redis: RedisClient;
  readonly hub: EventHub;
  readonly views: MessageViews;
  readonly waiting: WaitingMessages;
  readonly schedules: Schedules;
  readonly workers: WorkerRegistry;
  readonly queues: readonly Queue[];
  readonly deadLetters: DeadLetterOffice;
  readonly access: SessionAccess;
  readonly links: ArtifactLinks;
  readonly spool: UploadSpool;
  readonly slots: StreamSlots;
  readonly readiness: () => Promise<readonly NotReady[]>;
  /** Fires when the dispatcher stops: requests that are held open end. */
  readonly closing: AbortSignal;
  readonly clock: Clock;
}

/** The tenant of a request to a route that has a `scope`. */
export function tenantOf(request: FastifyRequest): string {
  const tenant = request.identity?.tenant;
  if (tenant === undefined) throw new ApiError(401, "UNAUTHENTICATED", "A valid key is needed");
  return tenant;
}

/** Fires when the client is gone or the dispatcher stops. */
export function requestSignal(reply: FastifyReply, closing: AbortSignal): AbortSignal {
  const gone = new AbortController();
  reply.raw.once("close", () => gone.abort());
  return AbortSignal.any([gone.signal, closing]);
}

/** Sends a stream as it is: a route's response schemas are for its JSON. */
export function sendRaw(reply: FastifyReply, content: Readable): FastifyReply {
  return reply.send(content);
}
