import type { SessionStore } from "@longshore/session-store";
import { commitNoteSchema, isSessionId, type SessionState, tenantSessionsKey } from "@longshore/shared";
import type { Redis } from "ioredis";
import { z } from "zod";

export const sessionSummarySchema = z.object({
  sessionId: z.string(),
  agent: z.string().optional(),
  lastActiveAt: z.string(),
  /** Messages that have not ended. */
  waiting: z.int(),
  /** Whether a worker holds it now. */
  active: z.boolean(),
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

/**
 * A page of a tenant's sessions, latest activity first. A cursor names the last session of its page; sessions
 * of the same millisecond are in the order of their ids, so that none is left out between pages.
 */
export async function listSessions(
  redis: Redis,
  tenant: string,
  { limit, cursor }: { readonly limit: number; readonly cursor: ListedSession | undefined },
): Promise<SessionPage> {
  const found: ListedSession[] = [];
  const from = cursor === undefined ? "+inf" : String(cursor.lastActiveMs);
  // One more than asked for says whether there is another page.
  for (let offset = 0; found.length <= limit; ) {
    const count = limit + 1;
    const flat = await redis.zrevrangebyscore(
      tenantSessionsKey(tenant),
      from,
      "-inf",
      "WITHSCORES",
      "LIMIT",
      offset,
      count,
    );
    for (let at = 0; at + 1 < flat.length; at += 2) {
      const session = { sessionId: flat[at] as string, lastActiveMs: Number(flat[at + 1]) };
      if (cursor === undefined || isAfter(session, cursor)) found.push(session);
    }
    if (flat.length < 2 * count) break;
    offset += count;
  }
  const sessions = found.slice(0, limit);
  const last = sessions.at(-1);
  return { sessions, cursor: found.length > limit && last !== undefined ? formatCursor(last) : undefined };
}

function isAfter(session: ListedSession, cursor: ListedSession): boolean {
  if (session.lastActiveMs !== cursor.lastActiveMs) return session.lastActiveMs < cursor.lastActiveMs;
  return session.sessionId < cursor.sessionId;
}

function formatCursor({ lastActiveMs, sessionId }: ListedSession): string {
  return `${lastActiveMs}-${sessionId}`;
}

/** Undefined where the text is no cursor. */
export function parseCursor(text: string): ListedSession | undefined {
  const [, score, sessionId] = /^(\d{1,16})-([a-z0-9]+)$/.exec(text) ?? [];
  if (score === undefined || sessionId === undefined || !isSessionId(sessionId)) return undefined;
  return { sessionId, lastActiveMs: Number(score) };
}

/** What Redis knows of a session; of one that it has forgotten, or never heard of (a fork), what its newest commit says. */
export async function summarizeSession(
  { state, store }: { readonly state: SessionState; readonly store: SessionStore },
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
    generation: newest?.generation ?? known.generation,
  };
}
