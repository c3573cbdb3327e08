import type { AcceptedMessage, ConversationPlace, Reply } from "@longshore/shared";
import type { CollectedFiles } from "./outbox-files.ts";

/**
 * A reply to messages.
 *
 * @param messages at least one, oldest first
 * @param to where it goes. @default the conversation that the last of them came from
 */
export function replyTo(
  messages: readonly AcceptedMessage[],
  content: Pick<Reply, "kind" | "text" | "of" | "question"> & CollectedFiles,
  to: ConversationPlace = messages.at(-1) as AcceptedMessage,
): Reply {
  const { channel, conversation, thread } = to;
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
    ...(content.of === undefined ? {} : { of: content.of }),
    ...(content.question === undefined ? {} : { question: content.question }),
  };
}
