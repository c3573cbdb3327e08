import { type SessionEvent, type SessionState, sessionOfMessageId } from "@longshore/shared";
import { isTransient } from "./errors.ts";
import type { EventHub } from "./event-hub.ts";
import { type FollowedEvent, followEvents } from "./follow-events.ts";
import { isEnded } from "./message-view.ts";

export interface FollowMessageOptions {
  readonly state: SessionState;
  readonly hub: EventHub;
  readonly messageId: string;
  readonly signal: AbortSignal;
}

/**
 * The events that concern one message, from its acceptance until it has ended or the signal says so. The
 * events are only how it is noticed quickly: its record is asked too, since events are capped and expire.
 * Undefined is given when nothing happened for a while.
 */
export async function* followMessage({
  state,
  hub,
  messageId,
  signal,
}: FollowMessageOptions): AsyncGenerator<FollowedEvent | undefined, void> {
  const sessionId = sessionOfMessageId(messageId);
  if (sessionId === undefined) return;
  const turns = new Set<string>();
  let ended = false;
  const after = await startOf(state, messageId);
  for await (const followed of followEvents({ state, hub, sessionId, after, signal })) {
    if (followed === undefined) {
      // Once more after it was seen to have ended: its last events may have come in between.
      if (ended) return;
      ended = await hasEnded(state, messageId);
      yield undefined;
    } else if (concerns(followed.event, messageId, turns)) {
      yield followed;
      if (followed.event.type === "message.ended") return;
    }
  }
}

/** The place in the events just before the message was accepted. */
async function startOf(state: SessionState, messageId: string): Promise<string> {
  try {
    const record = await state.readMessage(messageId);
    return record === undefined ? "0" : `${record.acceptedAt - 1}-18446744073709551615`;
  } catch (error) {
    if (isTransient(error)) return "0";
    throw error;
  }
}

async function hasEnded(state: SessionState, messageId: string): Promise<boolean> {
  try {
    const record = await state.readMessage(messageId);
    return record === undefined || isEnded(record.state);
  } catch (error) {
    if (isTransient(error)) return false;
    throw error;
  }
}

function concerns(event: SessionEvent, messageId: string, turns: Set<string>): boolean {
  switch (event.type) {
    case "accepted":
    case "message.ended":
      return event.messageId === messageId;
    case "turn.started":
      if (event.messageIds.includes(messageId)) turns.add(event.turnId);
      return turns.has(event.turnId);
    case "text":
    case "tool":
    case "plan":
    case "usage":
    case "question":
    case "turn.cancelling":
    case "turn.failed":
      return turns.has(event.turnId);
    case "reply.delivered":
    case "reply.dead":
      return false;
  }
}
