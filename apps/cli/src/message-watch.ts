import { setTimeout as sleep } from "node:timers/promises";
import type { SessionEvent } from "@longshore/shared";
import type { ApiClient } from "./api-client.ts";
import { type MessageAnswer, messageSchema } from "./api-schemas.ts";
import { ApiError, ApiUnreachableError } from "./errors.ts";

/** Waits between attempts to connect again, in ms; the last one is repeated. */
const RECONNECT_MS = [100, 500, 1_000, 2_000, 5_000];
/** So long may the dispatcher be away before a watch gives up, in attempts. */
const RECONNECTS_MAX = 30;

export interface WatchedMessage {
  readonly messageId: string;
  readonly sessionId: string;
}

export interface ToolCall {
  readonly id: string;
  /** What it does, where this was said again. */
  readonly title: string | undefined;
  readonly status: string | undefined;
}

/** What the turn asks, and waits for: the next message. */
export interface AskedQuestion {
  readonly text: string;
  readonly options: readonly string[];
}

/** What is told while a message is on its way. */
export interface MessageWatcher {
  /** In a few words for a status line: waiting, running, what it does. */
  readonly onStatus: (text: string) => void;
  /** A piece of what the agent says. */
  readonly onText: (text: string) => void;
  /** A tool call begins or ends: what was said before it belongs to the work, not to the answer. */
  readonly onTool: (call: ToolCall) => void;
  readonly onQuestion: (question: AskedQuestion) => void;
  /** The turn is over without an end and everything said in it is void; it is tried again. */
  readonly onRetry: (reason: string) => void;
}

/**
 * Follows a message by its session's events until it has ended, and gives its end with the replies. A broken
 * stream is taken up after the last event seen; what the events lost (they are capped) the message's own
 * record still tells.
 */
export async function watchMessage(
  client: ApiClient,
  message: WatchedMessage,
  watcher: MessageWatcher,
  signal: AbortSignal,
): Promise<MessageAnswer> {
  const view = new MessageView(message.messageId, watcher);
  let last = "0";
  for (let failures = 0; ; ) {
    try {
      const now = await readMessage(client, message.messageId, signal);
      if (isEnded(now)) return now;
      watcher.onStatus(now.state === "running" ? "running" : "queued");
      for await (const { id, data } of client.events(`/sessions/${message.sessionId}/events`, last, signal)) {
        failures = 0;
        last = id ?? last;
        if (view.take(data as SessionEvent)) return await readMessage(client, message.messageId, signal);
      }
    } catch (error) {
      const passing = error instanceof ApiUnreachableError || (error instanceof ApiError && error.retryable);
      if (!passing || failures >= RECONNECTS_MAX) throw error;
      watcher.onStatus("connecting again");
    }
    await sleep(RECONNECT_MS[Math.min(failures, RECONNECT_MS.length - 1)], undefined, { signal });
    failures++;
  }
}

function readMessage(client: ApiClient, messageId: string, signal: AbortSignal): Promise<MessageAnswer> {
  return client.get(`/messages/${messageId}`, messageSchema, { signal });
}

function isEnded({ state }: MessageAnswer): boolean {
  return state !== "accepted" && state !== "running";
}

/** What of a session's events concerns one message: those of the turns that it is in. */
class MessageView {
  readonly #messageId: string;
  readonly #watcher: MessageWatcher;
  #turnId: string | undefined;

  constructor(messageId: string, watcher: MessageWatcher) {
    this.#messageId = messageId;
    this.#watcher = watcher;
  }

  /** Takes one event in; true where the message has ended by it. */
  take(event: SessionEvent): boolean {
    switch (event.type) {
      case "turn.started":
        this.#startTurn(event.messageIds.includes(this.#messageId) ? event.turnId : undefined);
        return false;
      case "text":
        if (event.turnId === this.#turnId) this.#watcher.onText(event.text);
        return false;
      case "tool":
        if (event.turnId === this.#turnId)
          this.#watcher.onTool({ id: event.toolCallId, title: event.title, status: event.status });
        return false;
      case "question":
        if (event.turnId === this.#turnId)
          this.#watcher.onQuestion({ text: event.text, options: event.options });
        return false;
      case "turn.failed":
        if (event.turnId === this.#turnId) {
          this.#turnId = undefined;
          this.#watcher.onRetry(`the turn failed and is tried again: ${event.error.message}`);
        }
        return false;
      case "message.ended":
        return event.messageId === this.#messageId;
      default:
        return false;
    }
  }

  #startTurn(turnId: string | undefined): void {
    // A turn that neither failed nor ended went down with its worker.
    if (this.#turnId !== undefined && turnId !== undefined && turnId !== this.#turnId)
      this.#watcher.onRetry("its worker is gone; another one starts the turn again");
    this.#turnId = turnId;
    if (turnId !== undefined) this.#watcher.onStatus("running");
  }
}
