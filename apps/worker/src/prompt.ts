import { isUtf8 } from "node:buffer";
import { pathToFileURL } from "node:url";
import type { ContentBlock } from "@agentclientprotocol/sdk";
import type { AcceptedMessage, StoredAttachment } from "@longshore/shared";
import type { TurnPrompt } from "./agent.ts";

/** Where a message's attachments are, below the session directory. */
export function inboxDirectory(messageId: string): string {
  return `inbox/${messageId}`;
}

/** What an agent takes beside text and links, as it says when it begins. */
export interface PromptAbilities {
  readonly image?: boolean;
  readonly embeddedContext?: boolean;
}

/**
 * The images that models take, and how large each may be: as base64 the 5 MB that the Messages API of Anthropic, the
 * strictest of those we know, takes.
 */
const IMAGE_TYPES: ReadonlySet<string> = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);
const IMAGE_BYTES_MAX = 3_750_000;
/** The largest text that is put into the prompt itself. */
const TEXT_BYTES_MAX = 64 * 1024;
const TEXT_TYPE = /^(?:text\/.+|application\/(?:json|xml|yaml|toml|(?:[\w.-]+\+)?(?:json|xml)))$/;
/** Of all contents in one prompt together. The others are links only. */
const CONTENTS_MAX = 20;
const CONTENT_BYTES_MAX = 16 * 1024 * 1024;

/**
 * A turn's prompt: one text block a message, with time, sender and conversation in a short header, its
 * attachments after it as links to their absolute path in the sandbox, and the content of small images and texts too
 * where the agent takes them. Before them, what was sent already.
 */
export async function buildPrompt(
  { messages, sent, read }: TurnPrompt,
  abilities: PromptAbilities,
): Promise<ContentBlock[]> {
  const reminder = sentReminder(sent);
  const contents = new Contents(abilities, read);
  const blocks: ContentBlock[] = reminder === "" ? [] : [{ type: "text", text: reminder }];
  for (const message of messages) {
    blocks.push(headedText(message));
    for (const attachment of message.attachments) {
      const link = linkTo(message, attachment);
      blocks.push(link, ...(await contents.take(link.uri, attachment)));
    }
  }
  return blocks;
}

/** Contents of attachments that go into one prompt. */
class Contents {
  readonly #abilities: PromptAbilities;
  readonly #read: TurnPrompt["read"];
  #count = 0;
  #bytes = 0;

  constructor(abilities: PromptAbilities, read: TurnPrompt["read"]) {
    this.#abilities = abilities;
    this.#read = read;
  }

  async take(uri: string, attachment: StoredAttachment): Promise<ContentBlock[]> {
    const { contentType, sizeBytes } = attachment;
    const [mimeType = ""] = contentType.toLowerCase().split(/ *;/);
    const isImage = IMAGE_TYPES.has(mimeType) && sizeBytes <= IMAGE_BYTES_MAX && this.#abilities.image;
    const isText = TEXT_TYPE.test(mimeType) && sizeBytes <= TEXT_BYTES_MAX && this.#abilities.embeddedContext;
    if (!isImage && !isText) return [];
    if (this.#count >= CONTENTS_MAX || this.#bytes + sizeBytes > CONTENT_BYTES_MAX) return [];
    const content = await this.#read(attachment);
    if (isText && !isUtf8(content)) return [];
    this.#count++;
    this.#bytes += sizeBytes;
    return isImage
      ? [{ type: "image", mimeType, data: content.toString("base64"), uri }]
      : [{ type: "resource", resource: { uri, mimeType, text: content.toString("utf8") } }];
  }
}

/** What an agent is told of what it sent in earlier attempts at a turn; empty where that was nothing. */
export function sentReminder(sent: readonly string[]): string {
  if (sent.length === 0) return "";
  return `${SENT_ALREADY}\n${sent.map((text) => `> ${text.replaceAll("\n", "\n> ")}`).join("\n\n")}`;
}

const SENT_ALREADY =
  "[An earlier attempt at this turn failed, and what it did was undone. It had sent these messages to the conversation already:]";

function headedText(message: AcceptedMessage): ContentBlock {
  return {
    type: "text",
    text: `[${message.sentAt ?? message.acceptedAt} ${message.sender.name ?? message.sender.id} in ${message.channel}/${message.conversation}${message.thread === undefined ? "" : `/${message.thread}`}]\n${message.text}`,
  };
}

function linkTo(message: AcceptedMessage, { name, contentType, sizeBytes }: StoredAttachment) {
  return {
    type: "resource_link" as const,
    name,
    uri: pathToFileURL(`/session/${inboxDirectory(message.id)}/${name}`).href,
    mimeType: contentType,
    size: sizeBytes,
  };
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
