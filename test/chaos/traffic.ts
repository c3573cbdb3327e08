import { planMessages } from "./planned-message.ts";
import type { SeededRandom } from "./seeded-random.ts";
import { Sender } from "./sender.ts";
import { WaysIn, type WaysInOptions } from "./ways-in.ts";

/** A conversation, and what is special about it. */
export interface PlannedConversation {
  readonly conversation: string;
  readonly agent: string;
  /** Whether its agent's turns are cancelled by what comes while they run. */
  readonly interrupts: boolean;
  /** Whether its agent takes no message while another of the session is unanswered. */
  readonly refuses: boolean;
  /** Number of the message that kills its worker. @default none */
  readonly deadlyAt?: number | undefined;
  /** Whether its agent has the volume that sessions share. */
  readonly hasVolume: boolean;
  /** Whether the fleet's own schedule sends to it, too. */
  readonly isScheduled: boolean;
}

export interface TrafficOptions extends WaysInOptions {
  readonly conversations: readonly PlannedConversation[];
  readonly random: SeededRandom;
}

/**
 * Senders, one a session: each has a few messages under way, tries again under the same id what was not accepted, and
 * sends again what was not answered where it is told that Redis may have lost it (`sendAgain`), as any client may.
 */
export class Traffic implements AsyncDisposable {
  readonly #ways: WaysIn;
  readonly #stopping = new AbortController();
  readonly #ended = new AbortController();
  readonly #senders: Sender[];
  #running: Promise<unknown> = Promise.resolve();

  constructor({ conversations, random, ...ways }: TrafficOptions) {
    this.#ways = new WaysIn(ways);
    this.#senders = conversations.map(
      (one) =>
        new Sender(one, {
          plan: planMessages(random.fork(one.conversation), one.conversation, one),
          random: random.fork(`${one.conversation}/ways`),
          ways: this.#ways,
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
    for (const sender of this.#senders) sender.over(messageId);
  }

  /** Every message that has no answer is sent again, under its id. */
  sendAgain(): void {
    for (const sender of this.#senders) void sender.sendAgain();
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

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    this.#ended.abort();
    await this.#ways[Symbol.asyncDispose]();
  }
}
