import type { AcceptedMessage, Reply } from "@longshore/shared";
import type { CollectedFiles } from "./outbox-files.ts";

/**
 * A reply to messages, into the conversation that the last of them came from.
 *
 * @param messages at least one, oldest first
 */
export function replyTo(
  messages: readonly AcceptedMessage[],
  content: Pick<Reply, "kind" | "text" | "question"> & CollectedFiles,
): Reply {
  const { channel, conversation, thread } = messages.at(-1) as AcceptedMessage;
  return {
    index: 0,
    kind: content.kind,
    channel,
    conversation,
    ...(thread === undefined ? {} : { thread }),
    text: content.text,
    artifacts: [...content.artifacts],
    ...(content.refused.length === 0 ? {} : { refusedFiles: [...content.refused] }),
    inReplyTo: messages.map(({ id }) => id),
    ...(content.question === undefined ? {} : { question: content.question }),
  };
}
