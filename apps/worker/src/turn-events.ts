import { setImmediate } from "node:timers/promises";
import type { AgentContext, Logger, SessionEvent, SessionState, TokenCounts } from "@longshore/shared";
import type { PlanEntry } from "./agent.ts";

/** Pieces of text that come within this time after another become one event, in ms. */
const GATHER_MS = 50;
/** Text that waits to be said, in characters; what comes beyond it while Redis is slow is left out. */
const WAITING_MAX = 64 * 1024;
/** Events that wait to be written; what comes beyond them is left out. */
const WAITING_EVENTS_MAX = 256;
/** Events of one write, so that Redis is not held up. */
const TOGETHER_MAX = 64;
/** The text of one event, in characters. */
const EVENT_TEXT_MAX = 16 * 1024;
/** Entries of a plan that are repeated, and the characters of each. */
const PLAN_ENTRIES_MAX = 50;
const PLAN_ENTRY_MAX = 256;
/** The status of a tool call, or of an entry of a plan, that is repeated, in characters: a word of the protocol, if the agent is kind. */
const STATUS_MAX = 64;

/**
 * Says what happens in a turn to the session's events, in order: one write at a time, text gathered,
 * bounded. What waits goes together. Events are for those who watch: a write that fails is logged and fails nothing.
 */
export class TurnEvents {
  readonly #state: SessionState;
  readonly #sessionId: string;
  readonly #turnId: string;
  readonly #log: Logger;
  #text = "";
  #timer: NodeJS.Timeout | undefined;
  #figuresTimer: NodeJS.Timeout | undefined;
  readonly #waiting: SessionEvent[] = [];
  #writing: Promise<void> | undefined;

  constructor(options: {
    readonly state: SessionState;
    readonly sessionId: string;
    readonly turnId: string;
    readonly log: Logger;
  }) {
    this.#state = options.state;
    this.#sessionId = options.sessionId;
    this.#turnId = options.turnId;
    this.#log = options.log;
  }

  text(text: string): void {
    this.#text = (this.#text + text).slice(0, WAITING_MAX);
    if (this.#timer !== undefined) return;
    // What comes after a silence is said at once: nobody waits for the first word longer than the agent takes.
    this.#flushText();
    this.#gather();
  }

  #gather(): void {
    this.#timer = setTimeout(() => {
      const goesOn = this.#text !== "";
      this.#flushText();
      if (goesOn) this.#gather();
    }, GATHER_MS);
  }

  tool(toolCallId: string, title: string | undefined, status: string | undefined): void {
    this.#flushText();
    this.#write({
      type: "tool",
      turnId: this.#turnId,
      toolCallId: toolCallId.slice(0, 256),
      ...(title === undefined ? {} : { title: title.slice(0, 1024) }),
      ...(status === undefined ? {} : { status: status.slice(0, STATUS_MAX) }),
    });
  }

  plan(entries: readonly PlanEntry[]): void {
    this.#flushText();
    this.#write({
      type: "plan",
      turnId: this.#turnId,
      entries: entries.slice(0, PLAN_ENTRIES_MAX).map(({ content, status }) => ({
        content: content.slice(0, PLAN_ENTRY_MAX),
        status: status.slice(0, STATUS_MAX),
      })),
    });
  }

  usage(usage: { readonly tokens?: TokenCounts; readonly context?: AgentContext }): void {
    this.#enqueue({ type: "usage", turnId: this.#turnId, ...usage });
    // Figures go with what is said next: its first word does not wait for them.
    this.#figuresTimer ??= setTimeout(() => this.#writeWaiting(), GATHER_MS);
  }

  /** Resolves when everything said so far was written, or could not be, or is not waited for any more. */
  async flush(signal: AbortSignal): Promise<void> {
    this.#flushText();
    this.#writeWaiting();
    if (signal.aborted) return;
    let onAbort: (() => void) | undefined;
    const aborted = new Promise<void>((resolve) => {
      onAbort = resolve;
      signal.addEventListener("abort", onAbort, { once: true });
    });
    await Promise.race([this.#writing, aborted]);
    if (onAbort) signal.removeEventListener("abort", onAbort);
  }

  #flushText(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const text = this.#text;
    this.#text = "";
    for (let at = 0; at < text.length; at += EVENT_TEXT_MAX) {
      this.#write({ type: "text", turnId: this.#turnId, text: text.slice(at, at + EVENT_TEXT_MAX) });
    }
  }

  #write(event: SessionEvent): void {
    this.#enqueue(event);
    this.#writeWaiting();
  }

  #enqueue(event: SessionEvent): void {
    if (this.#waiting.length < WAITING_EVENTS_MAX) this.#waiting.push(event);
  }

  #writeWaiting(): void {
    clearTimeout(this.#figuresTimer);
    this.#figuresTimer = undefined;
    if (this.#waiting.length > 0) this.#writing ??= this.#writeAll();
  }

  async #writeAll(): Promise<void> {
    // What the agent said in one breath is one write, and its first word waits for no other one's.
    await setImmediate();
    while (this.#waiting.length > 0) {
      const events = this.#waiting.splice(0, TOGETHER_MAX);
      await this.#state
        .addEvents(this.#sessionId, events)
        .catch((error: unknown) => this.#log.warn({ err: error }, "events were not written"));
    }
    this.#writing = undefined;
  }
}
