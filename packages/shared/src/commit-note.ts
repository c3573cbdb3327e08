import { z } from "zod";
import { sessionUsageSchema } from "./agent-usage.ts";
import { type AcceptedMessage, acceptedMessageSchema } from "./message.ts";
import { endedOperationSchema, summarizeOperation } from "./operation.ts";

/** A file of a reply, a plain object in the store. */
export const artifactSchema = z.strictObject({
  id: z.string(),
  name: z.string(),
  contentType: z.string(),
  sizeBytes: z.int().nonnegative(),
});
export type Artifact = z.output<typeof artifactSchema>;

export const replyKinds = ["answer", "notice", "edit", "reaction"] as const;

/** One outbound message to a conversation. */
export const replySchema = z.strictObject({
  /** Position among the replies of its commit. The id derives from the commit's id and this. */
  index: z.int().nonnegative(),
  /**
   * `notice`: the fleet's own word (a dead letter), not the agent's; `edit`: another text for the reply that `of` names;
   * `reaction`: an emoji (`text`) for the message or reply that `of` names.
   */
  kind: z.enum(replyKinds),
  of: z.string().optional(),
  channel: z.string(),
  conversation: z.string(),
  thread: z.string().optional(),
  text: z.string(),
  artifacts: z.array(artifactSchema),
  /** Files that the agent left in `outbox/` and that could not be taken, each with the reason. */
  refusedFiles: z.array(z.strictObject({ name: z.string(), reason: z.string() })).optional(),
  inReplyTo: z.array(z.string()),
  /** Where it asks something, and the turn waits: the answer is the next message of who is asked, such as one of the options. */
  question: z.strictObject({ id: z.string(), options: z.array(z.string()) }).optional(),
});
export type Reply = z.output<typeof replySchema>;

/** A reply that a commit published: from here on it has its id, its session and its place in the order. */
export const publishedReplySchema = replySchema.extend({
  id: z.string(),
  sessionId: z.string(),
  tenant: z.string(),
  generation: z.int().positive(),
  createdAt: z.iso.datetime(),
});
export type PublishedReply = z.output<typeof publishedReplySchema>;

/** How a commit ends a message. */
export const messageEndSchema = z.strictObject({
  message: acceptedMessageSchema.extend({ operation: endedOperationSchema.optional() }),
  outcome: z.enum(["answered", "dead", "cancelled"]),
  error: z.strictObject({ code: z.string(), message: z.string() }).optional(),
});
export type MessageEnd = z.output<typeof messageEndSchema>;

/** How a message ends; without the list of files of an operation, which would make every commit record long. */
export function endMessage(
  { operation, ...message }: AcceptedMessage,
  outcome: MessageEnd["outcome"],
  error?: MessageEnd["error"],
): MessageEnd {
  return {
    message: {
      ...message,
      ...(operation === undefined ? {} : { operation: summarizeOperation(operation) }),
    },
    outcome,
    ...(error === undefined ? {} : { error }),
  };
}

/** How many ids of ended messages each commit repeats, so that Redis may forget them (I2). */
export const RECENT_MESSAGES = 100;

/** How many messages of a turn that were sent before its end are remembered, the newest. */
export const SENT_MAX = 20;

/**
 * What the fleet writes into a commit record beside the change of files. The commit log is the
 * conversation's lasting transcript, and the one place that says which messages are done (I3, I6).
 */
export const commitNoteSchema = z.strictObject({
  agent: z.string(),
  turnId: z.string().optional(),
  /** The messages that this commit ends. */
  ends: z.array(messageEndSchema),
  replies: z.array(replySchema),
  /** Where a session that was forked is talked to, until its own messages say so. */
  origin: z
    .strictObject({ channel: z.string(), conversation: z.string(), thread: z.string().optional() })
    .optional(),
  /** Replies of earlier commits that were not recorded as delivered when this one was made. */
  undelivered: z.array(publishedReplySchema),
  /** Ids of the messages ended last, newest last, those of `ends` included. */
  recent: z.array(z.string()).max(RECENT_MESSAGES),
  /** Messages without wake that were dropped since the commit before: too many waited, or for too long. */
  contextDropped: z.int().positive().optional(),
  /** The agent's own session id, to continue it on the next host. */
  agentSessionId: z.string().optional(),
  /**
   * What the agent sent before its turn ended, in this attempt at it and in those before: the generation whose reply it is,
   * and how it begins. Up to the commit that ends the turn's messages, that one included.
   */
  sent: z
    .array(z.strictObject({ generation: z.int().positive(), text: z.string() }))
    .max(SENT_MAX)
    .optional(),
  /** What the session used up to here. */
  usage: sessionUsageSchema.optional(),
  /** In a checkpoint: the generation that its turn began from, and is tried again from; 0: the empty directory. */
  wholeGeneration: z.int().nonnegative().optional(),
  /**
   * Generations of volumes that count from this commit on, by name: those that were committed as partial before it. Carried
   * on until a turn commits volumes again.
   */
  volumes: z.record(z.string(), z.int().positive()).optional(),
  /** Of the `publish` patterns by which its files were to be published after it: a hash. */
  publishedBy: z.string().optional(),
});
export type CommitNote = z.output<typeof commitNoteSchema>;
