import { fileURLToPath } from "node:url";
import type { ContentBlock } from "@agentclientprotocol/sdk";

/** One message of a prompt, as the worker's header names it. */
export interface PromptMessage {
  /** ISO time, sender and `channel/conversation`; absent where the block has no header. */
  readonly time?: string;
  readonly sender?: string;
  readonly conversation?: string;
  readonly text: string;
}

/** A file that came with the prompt, by its absolute path. */
export interface PromptAttachment {
  readonly name: string;
  readonly path: string;
}

/** Content that came in the prompt itself, by the URI it goes with. */
export interface PromptContent {
  readonly uri: string;
  readonly mimeType: string;
  readonly sizeBytes: number;
}

export interface Prompt {
  readonly messages: readonly PromptMessage[];
  readonly attachments: readonly PromptAttachment[];
  readonly contents: readonly PromptContent[];
}

/** The sender is greedy, since a name may contain " in "; a channel contains no slash. */
const HEADER = /^\[(?<time>\S+) (?<sender>.*) in (?<conversation>[^\s/]+\/.*)\]$/;

/**
 * Takes a prompt's content blocks apart: a text block is one message, with or without the worker's header
 * `[<time> <sender> in <channel>/<conversation>]` as its first line; a resource link is an attachment.
 * An image, and a text that came with it, are contents. Other kinds of blocks are not announced by this agent's
 * capabilities and are left out.
 */
export function parsePrompt(blocks: readonly ContentBlock[]): Prompt {
  const messages: PromptMessage[] = [];
  const attachments: PromptAttachment[] = [];
  const contents: PromptContent[] = [];
  for (const block of blocks) {
    if (block.type === "text") {
      messages.push(parseMessage(block.text));
    } else if (block.type === "resource_link") {
      attachments.push({ name: block.name, path: pathOf(block.uri) });
    } else if (block.type === "image") {
      const { uri, mimeType, data } = block;
      contents.push({ uri: uri ?? "", mimeType, sizeBytes: Buffer.byteLength(data, "base64") });
    } else if (block.type === "resource" && "text" in block.resource) {
      const { uri, mimeType, text } = block.resource;
      contents.push({ uri, mimeType: mimeType ?? "text/plain", sizeBytes: Buffer.byteLength(text) });
    }
  }
  return { messages, attachments, contents };
}

function parseMessage(text: string): PromptMessage {
  const lineEnd = text.indexOf("\n");
  const header = HEADER.exec(lineEnd < 0 ? text : text.slice(0, lineEnd))?.groups;
  if (header?.time === undefined || header.sender === undefined || header.conversation === undefined) {
    return { text };
  }
  return {
    time: header.time,
    sender: header.sender,
    conversation: header.conversation,
    text: lineEnd < 0 ? "" : text.slice(lineEnd + 1),
  };
}

function pathOf(uri: string): string {
  try {
    return fileURLToPath(uri);
  } catch {
    return uri;
  }
}
