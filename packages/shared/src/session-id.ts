import { hash } from "node:crypto";

/** How a route cuts conversations into sessions; see `deriveSessionId`. */
export const sessionModes = ["shared", "per-thread", "agent-shared"] as const;
export type SessionMode = (typeof sessionModes)[number];

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";
const ID_LENGTH = 26; // 130 bits

function base32(bytes: Uint8Array, length: number): string {
  let text = "";
  let value = 0;
  let bits = 0;
  for (const byte of bytes) {
    value = (value << 8) | byte;
    bits += 8;
    while (bits >= 5 && text.length < length) {
      bits -= 5;
      text += BASE32[(value >>> bits) & 31];
    }
    value &= (1 << bits) - 1;
  }
  return text;
}

/** A short id (26 characters of base32, 130 bits) from the SHA-256 of the parts, which can't run together. */
export function hashId(...parts: readonly string[]): string {
  return base32(hash("sha256", JSON.stringify(parts), "buffer"), ID_LENGTH);
}

export interface SessionOf {
  readonly tenant: string;
  readonly agent: string;
  readonly channel: string;
  readonly conversation: string;
  readonly thread?: string | undefined;
}

/**
 * The session that a message belongs to: derived, never looked up, so that any process gets the same
 * answer without asking. `shared`: one a conversation; `per-thread`: one a thread of it; `agent-shared`:
 * one an agent, over the conversations of all channels.
 */
export function deriveSessionId(mode: SessionMode, of: SessionOf): string {
  const parts =
    mode === "agent-shared"
      ? []
      : mode === "shared"
        ? [of.channel, of.conversation]
        : [of.channel, of.conversation, of.thread ?? ""];
  return hashId("session", mode, of.tenant, of.agent, ...parts);
}

/** The public id of a message: carries its session, so that it is found without an index. */
export function deriveMessageId(sessionId: string, senderMessageId: string): string {
  return `${sessionId}-${hashId("message", senderMessageId)}`;
}

/** The id of the message by which an operation is accepted; never that of a message of the same sender's id. */
export function deriveOperationId(sessionId: string, key: string): string {
  return `${sessionId}-${hashId("operation", key)}`;
}

/**
 * The id of a dead message that is accepted again: from that of the first of its line and how often it was retried, so
 * that retrying it twice at once is one message. Throws a `RangeError` for what is no message id.
 */
export function deriveRetryId(firstMessageId: string, count: number): string {
  const sessionId = sessionOfMessageId(firstMessageId);
  if (sessionId === undefined) throw new RangeError("not a message id");
  return `${sessionId}-${hashId("retry", firstMessageId, String(count))}`;
}

const MESSAGE_ID = /^([a-z2-7]{26})-([a-z2-7]{26})$/;
const SESSION_ID = /^[a-z2-7]{26}$/;

export function isSessionId(text: string): boolean {
  return SESSION_ID.test(text);
}

/** The session in a message's public id; undefined where the text is none. */
export function sessionOfMessageId(messageId: string): string | undefined {
  return MESSAGE_ID.exec(messageId)?.[1];
}

/** A reply's id: from the commit's own random id, so that no two commits ever share one. */
export function deriveReplyId(sessionId: string, commitId: string, index: number): string {
  return hashId("reply", sessionId, commitId, String(index));
}
