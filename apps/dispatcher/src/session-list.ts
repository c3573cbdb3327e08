import type { SessionStore } from "@longshore/session-store";
import {
  type Clock,
  commitNoteSchema,
  type RedisClient,
  readSetPage,
  type SessionState,
  tenantSessionsKey,
} from "@longshore/shared";
import { z } from "zod";
import { activityOf, sessionActivitySchema } from "./session-activity.ts";

export const sessionSummarySchema = z.object({
  sessionId: z.string(),
  agent: z.string().optional(),
  lastActiveAt: z.string(),
  /** Messages that have not ended. */
  waiting: z.int(),
  /** Whether a worker holds it now. */
  active: z.boolean(),
  ...sessionActivitySchema.shape,
  /** The newest generation that was published, as far as is known; 0: none. */
  generation: z.int(),
});

export interface ListedSession {
  readonly sessionId: string;
  readonly lastActiveMs: number;
}

export interface SessionPage {
  readonly sessions: readonly ListedSession[];
  /** For the page after this one; undefined on the last. */
  readonly cursor: string | undefined;
}

/** A page of a tenant's sessions, latest activity first. @throws BadCursorError */
export async function listSessions(
  redis: RedisClient,
  tenant: string,
  options: { readonly limit: number; readonly cursor: string | undefined },
): Promise<SessionPage> {
  const { members, cursor } = await readSetPage(redis, tenantSessionsKey(tenant), options);
  return { sessions: members.map(({ id, score }) => ({ sessionId: id, lastActiveMs: score })), cursor };
}

/** What Redis knows of a session; of one that it has forgotten, or never heard of (a fork), what its newest commit says. */
export async function summarizeSession(
  {
    state,
    store,
    clock,
  }: { readonly state: SessionState; readonly store: SessionStore; readonly clock: Clock },
  tenant: string,
  { sessionId, lastActiveMs }: ListedSession,
  signal: AbortSignal,
): Promise<z.output<typeof sessionSummarySchema>> {
  const known = await state.inspect(sessionId);
  const newest =
    known.tenant === undefined ? await store.readNewest({ tenant, sessionId }, signal) : undefined;
  const agent = known.agent ?? commitNoteSchema.safeParse(newest?.note).data?.agent;
  return {
    sessionId,
    ...(agent === undefined ? {} : { agent }),
    lastActiveAt: new Date(lastActiveMs).toISOString(),
    waiting: known.waiting,
    active: known.leasedBy !== undefined,
    ...activityOf(known, clock.now()),
    generation: newest?.generation ?? known.generation,
  };
}
