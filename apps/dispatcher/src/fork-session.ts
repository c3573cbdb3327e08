import { randomBytes } from "node:crypto";
import type { Commit, JsonObject, SessionRef, SessionStore } from "@longshore/session-store";
import {
  type Clock,
  type CommitNote,
  type Configuration,
  commitNoteSchema,
  LongshoreError,
  type RedisClient,
  routeMessage,
  type SessionState,
  tenantSessionsKey,
} from "@longshore/shared";
import type { SessionOrigin } from "./session-origin.ts";

/** Below every lease's: whatever an activation of the new session commits is above it. */
const FORK_EPOCH = 0;

export interface ForkParts {
  readonly configuration: () => Configuration;
  readonly state: SessionState;
  readonly store: SessionStore;
  readonly redis: RedisClient;
  readonly clock: Clock;
}

/** Where a fork is to be talked to. */
export interface ForkDestination {
  /** @default a new one */
  readonly conversation?: string | undefined;
  readonly thread?: string | undefined;
}

export interface ForkedSession extends SessionOrigin {
  readonly sessionId: string;
  /** The first of the new session. */
  readonly generation: number;
}

/** A session is there already where a fork was to be (`SESSION_EXISTS`). */
export class SessionExistsError extends LongshoreError {
  readonly sessionId: string;

  constructor(sessionId: string) {
    super("SESSION_EXISTS", `The conversation has a session already: ${sessionId}`);
    this.sessionId = sessionId;
  }
}

/**
 * Begins a session with the files of a generation of another one, for the same agent on the same channel. The agent's
 * own session id goes along: it finds what it remembers in the files.
 *
 * No lease is needed: the first commit of a session is made by whoever is first, and an activation that lost adopts it.
 *
 * @throws SessionExistsError; the errors of `routeMessage`; GenerationNotFoundError where the generation is about to be
 *   collected; those of the store
 */
export async function forkSession(
  { configuration, state, store, redis, clock }: ForkParts,
  source: SessionRef,
  { agent, channel }: SessionOrigin,
  commit: Commit,
  { conversation: wanted, thread }: ForkDestination,
  signal: AbortSignal,
): Promise<ForkedSession> {
  const { tenant } = source;
  const conversation = wanted ?? `fork-${randomBytes(8).toString("hex")}`;
  const origin = { agent, channel, conversation, ...(thread === undefined ? {} : { thread }) };
  const { sessionId } = routeMessage(configuration(), { tenant, ...origin });
  // Messages that were accepted and not answered are a session's beginning, too.
  const { waiting } = await state.inspect(sessionId);
  if (waiting > 0) throw new SessionExistsError(sessionId);
  const meta = {
    ...{
      epoch: FORK_EPOCH,
      nonce: randomBytes(16).toString("hex"),
      worker: "dispatcher",
      kind: "fork" as const,
    },
    note: noteOf(origin, commit) as unknown as JsonObject,
  };
  const result = await store.fork(source, commit, { tenant, sessionId }, meta, signal);
  if (result.outcome === "overtaken") throw new SessionExistsError(sessionId);
  await redis.zadd(tenantSessionsKey(tenant), clock.now(), sessionId);
  return { sessionId, generation: result.commit.generation, ...origin };
}

function noteOf({ agent, ...origin }: SessionOrigin, source: Commit): CommitNote {
  const agentSessionId = commitNoteSchema.safeParse(source.note).data?.agentSessionId;
  return {
    ...{ agent, origin, ends: [], replies: [], undelivered: [], recent: [] },
    ...(agentSessionId === undefined ? {} : { agentSessionId }),
  };
}
