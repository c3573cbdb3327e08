import { type Commit, GenerationNotFoundError, type SessionStore } from "@longshore/session-store";
import {
  type Artifact,
  commitNoteSchema,
  deriveReplyId,
  type MessageRecord,
  messageStates,
  replyKinds,
  type SessionState,
  sessionOfMessageId,
} from "@longshore/shared";
import { z } from "zod";
import type { WaitingMessages } from "./waiting-messages.ts";

export const artifactViewSchema = z.object({
  id: z.string(),
  name: z.string(),
  contentType: z.string(),
  sizeBytes: z.int(),
  /** Path of its content on this server. */
  path: z.string(),
});

export const replyViewSchema = z.object({
  id: z.string(),
  kind: z.enum(replyKinds),
  of: z.string().optional(),
  channel: z.string(),
  conversation: z.string(),
  thread: z.string().optional(),
  text: z.string(),
  artifacts: z.array(artifactViewSchema),
  refusedFiles: z.array(z.object({ name: z.string(), reason: z.string() })).optional(),
  question: z.object({ id: z.string(), options: z.array(z.string()) }).optional(),
  inReplyTo: z.array(z.string()),
  createdAt: z.string(),
});
export type ReplyView = z.output<typeof replyViewSchema>;

export const messageViewSchema = z.object({
  messageId: z.string(),
  sessionId: z.string(),
  /** Null while it waits for its time. */
  seq: z.int().nullable(),
  state: z.enum([...messageStates, "waiting"]),
  /** Turns that failed with it. */
  attempts: z.int(),
  acceptedAt: z.string(),
  /** What it waits for. */
  notBefore: z.string().optional(),
  endedAt: z.string().optional(),
  generation: z.int().optional(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
  replies: z.array(replyViewSchema),
});
export type MessageView = z.output<typeof messageViewSchema>;

export function isEnded(state: MessageView["state"]): boolean {
  return state !== "accepted" && state !== "running" && state !== "waiting";
}

export interface MessageViewsOptions {
  readonly state: SessionState;
  readonly store: SessionStore;
  readonly waiting: WaitingMessages;
}

/**
 * What is known of messages: Redis' record says how far one is; the commit that ended it says what was
 * answered, so that a reply is readable for as long as its generation is kept.
 */
export class MessageViews {
  readonly #options: MessageViewsOptions;

  constructor(options: MessageViewsOptions) {
    this.#options = options;
  }

  /** Undefined where no such message is known (any more). */
  async read(tenant: string, messageId: string, signal: AbortSignal): Promise<MessageView | undefined> {
    const sessionId = sessionOfMessageId(messageId);
    if (sessionId === undefined) return undefined;
    const record = await this.#options.state.readMessage(messageId);
    if (record === undefined) return undefined;
    const replies = await this.#replies(tenant, sessionId, messageId, record, signal);
    return {
      messageId,
      sessionId,
      seq: record.seq,
      state: record.state,
      attempts: record.attempts,
      acceptedAt: new Date(record.acceptedAt).toISOString(),
      ...(record.endedAt === undefined ? {} : { endedAt: new Date(record.endedAt).toISOString() }),
      ...(record.generation === undefined ? {} : { generation: record.generation }),
      ...(record.error === undefined ? {} : { error: record.error }),
      replies,
    };
  }

  /** A message that waits for its time, or was refused when that had come; undefined where there is none. */
  async readWaiting(tenant: string, messageId: string): Promise<MessageView | undefined> {
    const found = await this.#options.waiting.find(messageId);
    if (found === undefined || found.message.tenant !== tenant) return undefined;
    const { error, message } = found;
    const { sessionId, acceptedAt, notBefore } = message;
    return {
      ...{ messageId, sessionId, seq: null, attempts: 0, acceptedAt, replies: [] },
      ...(notBefore === undefined ? {} : { notBefore }),
      ...(error === undefined ? { state: "waiting" } : { state: "dead", error }),
    };
  }

  async #replies(
    tenant: string,
    sessionId: string,
    messageId: string,
    { state, generation }: MessageRecord,
    signal: AbortSignal,
  ): Promise<ReplyView[]> {
    if (!isEnded(state) || generation === undefined) return [];
    const last = await this.#readCommit(tenant, sessionId, generation, signal);
    if (last === undefined) return [];
    const sentIn = new Set(commitNoteSchema.parse(last.note).sent?.map((sent) => sent.generation));
    const earlier = await Promise.all(
      [...sentIn].map((sent) => this.#readCommit(tenant, sessionId, sent, signal)),
    );
    return [...earlier, last].flatMap((commit) =>
      commit === undefined
        ? []
        : commitNoteSchema
            .parse(commit.note)
            .replies.filter(({ inReplyTo }) => inReplyTo.includes(messageId))
            .map(({ index, ...reply }) => ({
              ...reply,
              id: deriveReplyId(sessionId, commit.id, index),
              artifacts: reply.artifacts.map((artifact) => viewArtifact(messageId, artifact)),
              createdAt: commit.time,
            })),
    );
  }

  /** Undefined beyond its retention, or where the session was deleted. */
  async #readCommit(
    tenant: string,
    sessionId: string,
    generation: number,
    signal: AbortSignal,
  ): Promise<Commit | undefined> {
    return await this.#options.store
      .readCommit({ tenant, sessionId }, generation, signal)
      .catch((error: unknown) => {
        if (error instanceof GenerationNotFoundError) return undefined;
        throw error;
      });
  }
}

function viewArtifact(messageId: string, artifact: Artifact): z.output<typeof artifactViewSchema> {
  return { ...artifact, path: `/v1/messages/${messageId}/artifacts/${encodeURIComponent(artifact.id)}` };
}
