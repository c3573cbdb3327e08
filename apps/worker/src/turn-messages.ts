import {
  type AcceptedMessage,
  CONTEXT_DROPPED,
  endMessage,
  type MessageEnd,
  type SessionState,
  type WaitingMessage,
} from "@longshore/shared";

/** The messages of one turn. */
export interface TurnMessages {
  /** Those that it answers, oldest first; at least one. */
  readonly waking: readonly AcceptedMessage[];
  /** Those that the agent is told besides, oldest first: the ones that came before the last of the others. */
  readonly context: readonly AcceptedMessage[];
  /** All of these, in the order in which they were accepted (I1). */
  readonly inOrder: readonly AcceptedMessage[];
  /** Those that waited too long to be told, or are too much. */
  readonly stale: readonly AcceptedMessage[];
  /** Messages that were dropped from the context since the last commit, the stale ones included. */
  readonly contextDropped: number;
}

/** What a turn is told besides may have so many bytes, as JSON: all of it goes into a commit's record, with much else. */
const CONTEXT_BYTES_MAX = 8 * 1024 ** 2;

/**
 * Puts a turn together: the messages that it answers, and what was said before them without a wake. Of that the newest,
 * where it is too much; of the others not even the text is kept.
 *
 * @param waking at least one, oldest first
 * @param context.length how many messages that only add context wait; where there are none, nothing is read
 * @param context.since when the oldest of them was accepted that is still told, in ms since the epoch
 */
export async function gatherMessages(
  state: SessionState,
  sessionId: string,
  waking: readonly WaitingMessage[],
  context: { readonly length: number; readonly since: number },
): Promise<TurnMessages> {
  const last = waking.at(-1) as WaitingMessage;
  const { messages, dropped } =
    context.length === 0 ? { messages: [], dropped: 0 } : await state.readContext(sessionId, last.seq);
  const isStale = ({ message }: WaitingMessage) => Date.parse(message.acceptedAt) < context.since;
  const begin = beginOfNewest(messages);
  const newest = messages.slice(begin);
  const tooMuch = messages
    .slice(0, begin)
    .map(({ message, ...rest }) => ({ ...rest, message: { ...message, text: "" } }));
  const told = newest.filter((waiting) => !isStale(waiting));
  const stale = [...tooMuch, ...newest.filter(isStale)];
  const inOrder = [...told, ...waking].sort((a, b) => a.seq - b.seq);
  const plain = (of: readonly WaitingMessage[]) => of.map(({ message }) => message);
  return {
    waking: plain(waking),
    context: plain(told),
    inOrder: plain(inOrder),
    stale: plain(stale),
    contextDropped: dropped + stale.length,
  };
}

/** Where the newest begin that are not too much together. */
function beginOfNewest(messages: readonly WaitingMessage[]): number {
  let bytes = 0;
  for (const [at, { message }] of [...messages.entries()].reverse()) {
    bytes += Buffer.byteLength(JSON.stringify(message.text));
    if (bytes > CONTEXT_BYTES_MAX) return at + 1;
  }
  return 0;
}

/** How a turn ends its messages; context has done what it was there for, however the others end. */
export function endTurnMessages(
  { waking, context, stale }: TurnMessages,
  outcome: "answered" | "cancelled",
): MessageEnd[] {
  return [
    ...stale.map((message) => endMessage(message, "cancelled", CONTEXT_DROPPED)),
    ...context.map((message) => endMessage(message, "answered")),
    ...waking.map((message) => endMessage(message, outcome)),
  ];
}
