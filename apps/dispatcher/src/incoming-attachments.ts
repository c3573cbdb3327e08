import type { ContentSource } from "@longshore/session-store";
import {
  type AgentDefinition,
  InvalidMessageError,
  type Message,
  MessageTooLargeError,
} from "@longshore/shared";
import { type FileName, nameAttachments } from "./attachment-names.ts";

/** An attachment under a name of its own: what it is, or where. */
export type NamedAttachment = FileName & {
  /** Whether the sender said its content type. */
  readonly saysType: boolean;
} & (
    | { readonly bytes: Buffer; readonly url?: undefined }
    | { readonly url: string; readonly bytes?: undefined }
  );

/** One whose bytes are here. */
export interface WholeAttachment extends FileName {
  readonly content: Buffer | ContentSource;
}

/**
 * Checks a message against its agent's limits and decodes what it brought.
 *
 * @throws MessageTooLargeError; InvalidMessageError for names that can be none, and URLs of other servers than the agent's
 */
export function readAttachments(
  message: Message,
  { limits, attachmentOrigins }: AgentDefinition,
): NamedAttachment[] {
  const textBytes = Buffer.byteLength(message.text);
  if (textBytes > limits.message) throw new MessageTooLargeError("text", textBytes, limits.message, "bytes");
  const { attachments } = message;
  if (attachments.length > limits.attachments)
    throw new MessageTooLargeError("attachments", attachments.length, limits.attachments, "attachments");
  // By length, before anything is decoded into memory.
  const bytes = attachments.reduce((total, { data = "" }) => total + Buffer.byteLength(data, "base64"), 0);
  if (bytes > limits.attachmentBytes)
    throw new MessageTooLargeError("attachments", bytes, limits.attachmentBytes, "bytes");
  const { names, problems: nameProblems } = nameAttachments(attachments);
  const problems = [...nameProblems];
  for (const [index, { url }] of attachments.entries()) {
    if (url !== undefined && !attachmentOrigins.includes(new URL(url).origin))
      problems.push({
        where: `attachments.${index}.url`,
        problem: `one of the agent's \`attachmentOrigins\`, which are ${attachmentOrigins.join(", ") || "none"}`,
      });
  }
  if (problems.length > 0) throw new InvalidMessageError(problems);
  return attachments.map(({ data = "", url, contentType }, index) => ({
    ...(names[index] as FileName),
    saysType: contentType !== undefined,
    ...(url === undefined ? { bytes: Buffer.from(data, "base64") } : { url }),
  }));
}
