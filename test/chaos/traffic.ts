import { setTimeout as delay } from "node:timers/promises";
import { deriveMessageId, deriveSessionId } from "@longshore/shared";
import { z } from "zod";
import type { SentMessage } from "./history.ts";
import { type PlannedMessage, planMessages } from "./planned-message.ts";
import type { SeededRandom } from "./seeded-random.ts";

const acceptedSchema = z.object({
  messageId: z.string(),
  seq: z.number(),
  duplicate: z.boolean(),
});

export const TENANT = "acme";
const CHANNEL = "hook";
/** Messages of a session that its sender has under way at once. */
const WINDOW = 4;
/** Between two tries of a message that was not accepted, in ms. */
const AGAIN_MS = 150;
/** A dispatcher that does not answer is one that has gone. */
const ANSWER_LIMIT_MS = 20_000;

export interface TrafficOptions {
  /** Addresses of the dispatchers that are up; may be none for a while. */
  readonly addresses: () => readonly string[];
  readonly key: string;
  readonly conversations: readonly {
    readonly conversation: string;
    readonly agent: string;
    /** Number of the message that kills its worker. @default none */
    readonly deadlyAt?: number | undefined;
  }[];
  readonly random: SeededRandom;
}

/**
 * Senders, one a session: each has a few messages under way, tries again under the same id what was not accepted, and
 * sends again what was not answered where it is told that Redis may have lost it (`sendAgain`), as any client may.
 */
export class Traffic {
  readonly #options: TrafficOptions;
  readonly #stopping = new AbortController();
  readonly #ended = new AbortController();
  readonly #senders: Sender[];
  #running: Promise<unknown> = Promise.resolve();

  constructor(options: TrafficOptions) {
    this.#options = options;
    this.#senders = options.conversations.map(
      ({ conversation, agent, deadlyAt }) =>
        new Sender(conversation, agent, {
          plan: planMessages(options.random.fork(conversation), conversation, deadlyAt),
          random: options.random.fork(`${conversation}/ways`),
          post: (body, random) => this.#post(body, random),
          stopping: this.#stopping.signal,
          ended: this.#ended.signal,
        }),
    );
  }

  get senders(): readonly Sender[] {
    return this.#senders;
  }

  get sent(): number {
    return this.#senders.reduce((sum, { messages }) => sum + messages.length, 0);
  }

  start(): void {
    this.#running = Promise.all(this.#senders.map((sender) => sender.run()));
  }

  /** Whether a message's worker is to be killed. */
  isDeadly(messageId: string): boolean {
    return this.#senders.some((sender) => sender.isDeadly(messageId));
  }

  /** A reply to a message has come. */
  answered(messageId: string): void {
    for (const sender of this.#senders) sender.answered(messageId);
  }

  /** Every message that has no answer is sent again, under its id. */
  sendAgain(): void {
    for (const sender of this.#senders) sender.sendAgain();
  }

  /**
   * No new messages; waits until those that were sent have been answered, and gives the ids of those that have not after
   * `limitMs`.
   */
  async finish(limitMs: number): Promise<string[]> {
    this.#stopping.abort(new Error("the traffic ends"));
    const limit = setTimeout(
      () => this.#ended.abort(new Error("the time to wait for answers is over")),
      limitMs,
    );
    await this.#running;
    clearTimeout(limit);
    return this.#senders.flatMap((sender) => sender.unanswered);
  }

  async #post(body: object, random: SeededRandom): Promise<Posted> {
    const addresses = this.#options.addresses();
    if (addresses.length === 0) return { outcome: "again" };
    try {
      const response = await fetch(`${random.pick(addresses)}/v1/messages`, {
        method: "POST",
        headers: { authorization: `Bearer ${this.#options.key}`, "content-type": "application/json" },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(ANSWER_LIMIT_MS),
      });
      const text = await response.text();
      if (response.status === 202)
        return { outcome: "accepted", answer: acceptedSchema.parse(JSON.parse(text)) };
      if (response.status >= 500 || response.status === 429) return { outcome: "again" };
      return { outcome: "refused", why: `${response.status} ${text}` };
    } catch (error) {
      if (error instanceof z.ZodError || error instanceof SyntaxError)
        return { outcome: "refused", why: String(error) };
      return { outcome: "again" };
    }
  }
}

type Posted =
  | { readonly outcome: "accepted"; readonly answer: z.output<typeof acceptedSchema> }
  | { readonly outcome: "again" }
  | { readonly outcome: "refused"; readonly why: string };

interface SenderParts {
  readonly plan: Generator<PlannedMessage>;
  readonly random: SeededRandom;
  readonly post: (body: object, random: SeededRandom) => Promise<Posted>;
  readonly stopping: AbortSignal;
  readonly ended: AbortSignal;
}

/** Sends the messages of one session. */
export class Sender {
  readonly conversation: string;
  readonly agent: string;
  readonly messages: SentMessage[] = [];
  readonly sessionId: string;
  readonly #deadly = new Set<string>();
  readonly #parts: SenderParts;
  readonly #answered = new Set<string>();
  readonly #watchers = new Set<() => void>();

  constructor(conversation: string, agent: string, parts: SenderParts) {
    this.conversation = conversation;
    this.agent = agent;
    this.sessionId = deriveSessionId("per-thread", { tenant: TENANT, agent, channel: CHANNEL, conversation });
    this.#parts = parts;
  }

  /** What was sent and has no answer yet. */
  get unanswered(): string[] {
    return this.messages.filter((sent) => !this.#isOver(sent)).map(({ planned }) => planned.id);
  }

  isDeadly(messageId: string): boolean {
    return this.#deadly.has(messageId);
  }

  answered(messageId: string): void {
    this.#answered.add(messageId);
    this.#notify();
  }

  sendAgain(): void {
    void this.#sendAgain();
  }

  /** One after another, as a person writes: the same order whichever dispatcher is up. */
  async #sendAgain(): Promise<void> {
    for (const sent of this.messages) if (!this.#isOver(sent)) await this.#send(sent);
  }

  async run(): Promise<void> {
    const { plan, stopping, ended } = this.#parts;
    for (const planned of plan) {
      await this.#until(() => this.unanswered.length < WINDOW, stopping);
      await delay(planned.pauseMs, undefined, { signal: stopping }).catch(() => undefined);
      if (stopping.aborted) break;
      if (planned.kind === "deadly") this.#deadly.add(deriveMessageId(this.sessionId, planned.id));
      const sent: SentMessage = { planned, acceptances: [] };
      this.messages.push(sent);
      await Promise.all([this.#send(sent), ...(planned.isTwice ? [this.#send(sent)] : [])]);
    }
    await this.#until(() => this.unanswered.length === 0, ended);
  }

  #isOver(sent: SentMessage): boolean {
    return (
      sent.refusal !== undefined || sent.acceptances.some(({ messageId }) => this.#answered.has(messageId))
    );
  }

  async #send(sent: SentMessage): Promise<void> {
    const { post, random, ended } = this.#parts;
    const { id, text } = sent.planned;
    const { conversation, agent } = this;
    const body = { id, agent, channel: CHANNEL, conversation, sender: { id: "ada" }, text };
    while (!ended.aborted) {
      const posted = await post(body, random);
      if (posted.outcome === "accepted") {
        sent.acceptances.push({ at: Date.now(), ...posted.answer });
        return this.#notify();
      }
      if (posted.outcome === "refused") {
        sent.refusal = posted.why;
        return this.#notify();
      }
      await delay(AGAIN_MS);
    }
  }

  async #until(holds: () => boolean, signal: AbortSignal): Promise<void> {
    while (!holds() && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const watcher = () => {
          this.#watchers.delete(watcher);
          signal.removeEventListener("abort", watcher);
          resolve();
        };
        this.#watchers.add(watcher);
        signal.addEventListener("abort", watcher, { once: true });
      });
    }
  }

  #notify(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}
