import type { Commit } from "@longshore/session-store";
import {
  type AskedQuestion,
  addUsage,
  type CommitNote,
  commitNoteSchema,
  deriveReplyId,
  type MessageEnd,
  type PublishedReply,
  RECENT_MESSAGES,
  type Reply,
  SENT_MAX,
  type SessionUsage,
} from "@longshore/shared";
import { CommitNoteUnreadableError } from "./errors.ts";

/** Characters of a message that was sent already that the next attempt is told. */
const SENT_TEXT_MAX = 2_000;

/** Of commits that are still at hand: a note is long, and is asked for again and again in a turn. */
const notes = new WeakMap<Commit, CommitNote>();

/**
 * The fleet's note in a commit; undefined for a commit that something else made (a push, say).
 *
 * @throws CommitNoteUnreadableError for one that is there and can't be read: to go on without it would forget
 *   which messages were answered
 */
export function readNote(commit: Commit | undefined): CommitNote | undefined {
  if (commit === undefined || !("agent" in commit.note)) return undefined;
  const known = notes.get(commit);
  if (known !== undefined) return known;
  const parsed = commitNoteSchema.safeParse(commit.note);
  if (!parsed.success) throw new CommitNoteUnreadableError(commit.generation);
  notes.set(commit, parsed.data);
  return parsed.data;
}

/** Saves `readNote` the work for a commit that was made just now. */
export function rememberNote(commit: Commit, note: CommitNote): void {
  notes.set(commit, note);
}

/** The replies of a commit as they are published: each with its id and its place in the order. */
export function publishedReplies(
  commit: Commit,
  note: CommitNote,
  ref: { readonly tenant: string; readonly sessionId: string },
): PublishedReply[] {
  return note.replies.map((reply) => ({
    ...reply,
    ...ref,
    id: deriveReplyId(ref.sessionId, commit.id, reply.index),
    generation: commit.generation,
    createdAt: commit.time,
  }));
}

/** What is new in a commit's note. */
export interface NextNote {
  readonly agent: string;
  readonly turnId?: string;
  readonly ends?: readonly MessageEnd[];
  readonly replies?: readonly Reply[];
  /** The agent's own session. @default the parent's; given as undefined: none */
  readonly agentSessionId?: string | undefined;
  readonly wholeGeneration?: number;
  /** A message that the agent sends before its turn has ended. */
  readonly sends?: string | undefined;
  /** What the turn used. */
  readonly usage?: SessionUsage | undefined;
  /** Messages that were dropped from the context since the commit before. @default 0 */
  readonly contextDropped?: number;
  /** Generations of volumes that stand with it. @default the parent's */
  readonly volumes?: Readonly<Record<string, number>> | undefined;
  /** What one of the replies asks, from when it is published. */
  readonly asks?: AskedQuestion | undefined;
}

/** The note of the next commit: what it ends and says, and what is carried on from the one before. */
export function nextNote(
  parent: CommitNote | undefined,
  next: NextNote & {
    readonly undelivered: readonly PublishedReply[];
    readonly publishedBy?: string | undefined;
    /** Of the commit. */
    readonly generation: number;
  },
): CommitNote {
  const ends = [...(next.ends ?? [])];
  const sent = [
    ...sentBefore(parent),
    ...(next.sends === undefined
      ? []
      : [{ generation: next.generation, text: next.sends.slice(0, SENT_TEXT_MAX) }]),
  ].slice(-SENT_MAX);
  const agentSessionId = "agentSessionId" in next ? next.agentSessionId : parent?.agentSessionId;
  const volumes = next.volumes ?? parent?.volumes ?? {};
  const usage = next.usage === undefined ? parent?.usage : addUsage(parent?.usage, next.usage);
  return {
    agent: next.agent,
    ...(next.turnId === undefined ? {} : { turnId: next.turnId }),
    ends,
    replies: [...(next.replies ?? [])],
    undelivered: [...next.undelivered],
    recent: [...(parent?.recent ?? []), ...idsToRemember(ends)].slice(-RECENT_MESSAGES),
    ...(agentSessionId === undefined ? {} : { agentSessionId }),
    ...(sent.length === 0 ? {} : { sent }),
    ...(usage === undefined ? {} : { usage }),
    ...(next.wholeGeneration === undefined ? {} : { wholeGeneration: next.wholeGeneration }),
    ...(next.contextDropped ? { contextDropped: next.contextDropped } : {}),
    ...(Object.keys(volumes).length === 0 ? {} : { volumes: { ...volumes } }),
    ...(next.publishedBy === undefined ? {} : { publishedBy: next.publishedBy }),
  };
}

/** What was sent in attempts at a turn whose messages have not ended. */
export function sentBefore(note: CommitNote | undefined): NonNullable<CommitNote["sent"]> {
  return note === undefined || note.ends.length > 0 ? [] : (note.sent ?? []);
}

/** Of context nothing has to be remembered: told twice, it is not answered twice, and it must not crowd out the others. */
function idsToRemember(ends: readonly MessageEnd[]): string[] {
  return ends.filter(({ message }) => message.wake !== false).map(({ message }) => message.id);
}
