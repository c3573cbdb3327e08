import type { Commit, SessionRef, SessionStore } from "@longshore/session-store";
import { commitNoteSchema, type SessionState } from "@longshore/shared";

/** Who a session's agent is, and where it is talked to. */
export interface SessionOrigin {
  readonly agent: string;
  readonly channel: string;
  readonly conversation: string;
  readonly thread?: string;
}

/** Generations that are looked through: those that end no message (lingering, takeovers) are few in a row. */
const GENERATIONS = 100;
const PAGE = 20;

/**
 * Finds out where a session is talked to. Its id does not say so: a message that waits does, else the newest commit
 * that ended or answered one. Undefined for a session of which neither is left.
 */
export async function findOrigin(
  { state, store }: { readonly state: SessionState; readonly store: SessionStore },
  ref: SessionRef,
  signal: AbortSignal,
): Promise<SessionOrigin | undefined> {
  const [waiting] = await state.readMailbox(ref.sessionId, 1);
  if (waiting !== undefined) return originOf(waiting.agent, waiting);
  let before: number | undefined;
  for (let seen = 0; seen < GENERATIONS; seen += PAGE) {
    const options = { limit: PAGE, ...(before === undefined ? {} : { before }) };
    const commits = await store.listCommits(ref, options, signal);
    for (const commit of commits) {
      const origin = originOfCommit(commit);
      if (origin !== undefined) return origin;
    }
    before = commits.at(-1)?.generation;
    if (commits.length < PAGE) return undefined;
  }
  return undefined;
}

function originOfCommit(commit: Commit): SessionOrigin | undefined {
  const note = commitNoteSchema.safeParse(commit.note).data;
  if (note === undefined) return undefined;
  const { agent, ends, replies, origin } = note;
  const said = ends.at(-1)?.message ?? replies.at(-1) ?? origin;
  return said === undefined ? undefined : originOf(agent, said);
}

function originOf(agent: string, said: Conversation): SessionOrigin {
  const { channel, conversation, thread } = said;
  return { agent, channel, conversation, ...(thread === undefined ? {} : { thread }) };
}

interface Conversation {
  readonly channel: string;
  readonly conversation: string;
  readonly thread?: string | undefined;
}
