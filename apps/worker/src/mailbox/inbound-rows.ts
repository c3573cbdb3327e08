import type { AcceptedMessage, ConversationPlace } from "@longshore/shared";
import { inboxDirectory, sentReminder } from "../prompt.ts";
import { SCHEDULE_NAME } from "../tools/session-tools.ts";

/** How many waiting rows an agent of the contract reads at once: the newest, by its default. */
const BATCH_MAX = 10;

/** A row of `messages_in`. */
export interface InboundRow {
  readonly id: string;
  readonly kind: "chat" | "task" | "system";
  /** ISO 8601. */
  readonly timestamp: string;
  /** 0: said before, and no word to the agent. */
  readonly trigger: 0 | 1;
  readonly channel: string;
  readonly conversation: string;
  readonly thread?: string | undefined;
  /** Of a task: which one is due. */
  readonly seriesId?: string | undefined;
  /** JSON, as the contract has it for the kind. */
  readonly content: string;
}

/** What several messages without wake that are told in one row say together. */
interface Told {
  readonly message: AcceptedMessage;
  readonly text: string;
}

/**
 * A turn's messages as rows, in batches of which each is read whole and in order: of more rows than it reads at once an agent
 * sees the newest only, and of rows that wake nobody none. Where more was said before a message than fits, the oldest of it becomes one row.
 *
 * @param sent what was sent in earlier attempts at the turn
 */
export function inboundBatches(
  messages: readonly AcceptedMessage[],
  sent: readonly string[],
): InboundRow[][] {
  const batches: Told[][] = [];
  let batch: Told[] = [];
  for (const message of messages) {
    if (batch.length === BATCH_MAX) {
      const waking = batch.findLastIndex(wakes);
      if (waking >= 0) batches.push(batch.splice(0, waking + 1));
      else batch = [joined(batch[0] as Told, batch[1] as Told), ...batch.slice(2)];
    }
    batch.push({ message, text: message.text });
  }
  batches.push(batch);
  let reminder = sentReminder(sent);
  return batches.map((told) =>
    told.map(({ message, text }) => {
      if (!wakes({ message }) || reminder === "") return inboundRow(message, text);
      const reminded = `${reminder}\n\n${text}`;
      reminder = "";
      return inboundRow(message, reminded);
    }),
  );
}

/** The answer to a question of the agent's, for the call that waits for it. */
export function answerRow(
  questionId: string,
  value: string,
  { channel, conversation, thread }: ConversationPlace,
  time: Date,
): InboundRow {
  const status = "answered";
  const content = { type: "question_response", questionId, status, result: value, selectedOption: value };
  return {
    id: `answer-${questionId}`,
    kind: "system",
    timestamp: time.toISOString(),
    trigger: 0,
    ...{ channel, conversation, thread },
    content: JSON.stringify(content),
  };
}

function wakes({ message }: Pick<Told, "message">): boolean {
  return message.wake !== false;
}

function joined(older: Told, newer: Told): Told {
  const named = ({ message, text }: Told) => `${message.sender.name ?? message.sender.id}: ${text}`;
  return { message: newer.message, text: `${named(older)}\n${named(newer)}` };
}

function inboundRow(message: AcceptedMessage, text: string): InboundRow {
  const { sender, attachments } = message;
  const said = {
    text,
    sender: sender.name ?? sender.id,
    senderId: sender.id,
    ...(attachments.length === 0
      ? {}
      : {
          attachments: attachments.map(({ name, contentType, sizeBytes }) => ({
            name,
            type: "file",
            mimeType: contentType,
            size: sizeBytes,
            localPath: `${inboxDirectory(message.id)}/${name}`,
          })),
        }),
  };
  return {
    id: message.id,
    ...kindOf(message),
    timestamp: message.sentAt ?? message.acceptedAt,
    trigger: wakes({ message }) ? 1 : 0,
    channel: message.channel,
    conversation: message.conversation,
    thread: message.thread,
    content: JSON.stringify(message.kind === "task" ? { prompt: text, script: null } : said),
  };
}

function kindOf({ kind, metadata }: AcceptedMessage): Pick<InboundRow, "kind" | "seriesId"> {
  if (kind !== "task") return { kind: "chat" };
  const name = metadata?.[SCHEDULE_NAME];
  return { kind, seriesId: name === undefined ? undefined : String(name) };
}
