import type { AcceptedMessage, Reply } from "@longshore/shared";
import type { CollectedFiles } from "./outbox-files.ts";

/** A reply into the conversation that a message came from. */
export function replyTo(
  message: AcceptedMessage,
  content: { readonly kind: Reply["kind"]; readonly text: string } & CollectedFiles,
): Reply {
  const { channel, conversation, thread, id } = message;
  return {
    index: 0,
    kind: content.kind,
    channel,
    conversation,
    ...(thread === undefined ? {} : { thread }),
    text: content.text,
    artifacts: [...content.artifacts],
    ...(content.refused.length === 0 ? {} : { refusedFiles: [...content.refused] }),
    inReplyTo: [id],
  };
}
