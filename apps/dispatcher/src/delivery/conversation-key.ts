import type { ReplyWake } from "@longshore/shared";

/** The conversation that a reply goes to, as a wake names it. */
export function conversationOf({ sessionId, channel, conversation, thread }: ReplyWake): ReplyWake {
  return { sessionId, channel, conversation, ...(thread === undefined ? {} : { thread }) };
}

export function sameConversation(a: ReplyWake, b: ReplyWake): boolean {
  return (
    a.sessionId === b.sessionId &&
    a.channel === b.channel &&
    a.conversation === b.conversation &&
    a.thread === b.thread
  );
}
