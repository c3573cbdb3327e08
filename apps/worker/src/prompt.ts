import { pathToFileURL } from "node:url";
import type { ContentBlock } from "@agentclientprotocol/sdk";
import type { AcceptedMessage } from "@longshore/shared";

/** Where a message's attachments are, below the session directory. */
export function inboxDirectory(messageId: string): string {
  return `inbox/${messageId}`;
}

/**
 * A turn's prompt: one text block a message, with time, sender and conversation in a short header, its
 * attachments after it as links to their absolute path in the sandbox.
 */
export function buildPrompt(messages: readonly AcceptedMessage[]): ContentBlock[] {
  return messages.flatMap((message): ContentBlock[] => [
    {
      type: "text",
      text: `[${message.sentAt ?? message.acceptedAt} ${message.sender.name ?? message.sender.id} in ${message.channel}/${message.conversation}${message.thread === undefined ? "" : `/${message.thread}`}]\n${message.text}`,
    },
    ...message.attachments.map(
      (attachment): ContentBlock => ({
        type: "resource_link",
        name: attachment.name,
        uri: pathToFileURL(`/session/${inboxDirectory(message.id)}/${attachment.name}`).href,
        mimeType: attachment.contentType,
        size: attachment.sizeBytes,
      }),
    ),
  ]);
}
