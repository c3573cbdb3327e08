import { pathToFileURL } from "node:url";
import type { ContentBlock } from "@agentclientprotocol/sdk";
import type { AcceptedMessage } from "@longshore/shared";
import type { TurnPrompt } from "./agent.ts";

/** Where a message's attachments are, below the session directory. */
export function inboxDirectory(messageId: string): string {
  return `inbox/${messageId}`;
}

/**
 * A turn's prompt: one text block a message, with time, sender and conversation in a short header, its
 * attachments after it as links to their absolute path in the sandbox. Before them, what was sent already.
 */
export function buildPrompt({ messages, sent }: TurnPrompt): ContentBlock[] {
  const reminder: ContentBlock[] =
    sent.length === 0
      ? []
      : [
          {
            type: "text",
            text: `${SENT_ALREADY}\n${sent.map((text) => `> ${text.replaceAll("\n", "\n> ")}`).join("\n\n")}`,
          },
        ];
  return [...reminder, ...messages.flatMap(blocksOf)];
}

const SENT_ALREADY =
  "[An earlier attempt at this turn failed, and what it did was undone. It had sent these messages to the conversation already:]";

function blocksOf(message: AcceptedMessage): ContentBlock[] {
  return [
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
  ];
}

/** A turn's prompt for a command: what it reads from standard input, as docs/agents.md has it. */
export interface ExecPrompt {
  readonly session: string;
  /** What the messages that are to be answered say, an empty line between two. */
  readonly text: string;
  readonly messages: readonly {
    readonly id: string;
    readonly text: string;
    readonly sender: { readonly id: string; readonly name?: string | undefined };
    readonly channel: string;
    readonly conversation: string;
    readonly thread?: string | undefined;
    /** When it was sent, as the channel says, else when it was accepted; ISO 8601. */
    readonly at: string;
    /** False: said before, and no word to the agent. */
    readonly wake: boolean;
    readonly attachments: readonly {
      readonly name: string;
      /** Absolute, in the sandbox. */
      readonly path: string;
      readonly contentType: string;
      readonly sizeBytes: number;
    }[];
  }[];
}

export function execPrompt(session: string, messages: readonly AcceptedMessage[]): ExecPrompt {
  return {
    session,
    text: messages
      .filter(({ wake }) => wake !== false)
      .map(({ text }) => text)
      .join("\n\n"),
    messages: messages.map((message) => ({
      id: message.id,
      text: message.text,
      sender: { id: message.sender.id, name: message.sender.name },
      channel: message.channel,
      conversation: message.conversation,
      thread: message.thread,
      at: message.sentAt ?? message.acceptedAt,
      wake: message.wake !== false,
      attachments: message.attachments.map(({ name, contentType, sizeBytes }) => ({
        name,
        path: `/session/${inboxDirectory(message.id)}/${name}`,
        contentType,
        sizeBytes,
      })),
    })),
  };
}
