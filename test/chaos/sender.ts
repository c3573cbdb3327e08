import { setTimeout as delay } from "node:timers/promises";
import { deriveMessageId, deriveSessionId } from "@longshore/shared";
import type { SentMessage } from "./history.ts";
import { nameOfAttachment, type PlannedMessage, planExtra } from "./planned-message.ts";
import type { SeededRandom } from "./seeded-random.ts";
import type { PlannedConversation } from "./traffic.ts";
import { CHANNEL, TENANT, type WaysIn } from "./ways-in.ts";

/** Messages of a session that its sender has under way at once. */
const WINDOW = 4;
/** Between two tries of a message that was not accepted, in ms. */
const AGAIN_MS = 150;
/** Between two looks at a message that may end without a reply, in ms. */
const LOOK_MS = 400;

export interface SenderParts {
  readonly plan: Generator<PlannedMessage>;
  readonly random: SeededRandom;
  readonly ways: WaysIn;
  readonly stopping: AbortSignal;
  readonly ended: AbortSignal;
}

/** Sends the messages of one session. */
export class Sender {
  readonly conversation: string;
  readonly sessionId: string;
  readonly messages: SentMessage[] = [];
  readonly hasVolume: boolean;
  readonly refuses: boolean;
  /** What the fleet's own schedule sends to the session. */
  readonly scheduled: PlannedMessage | undefined;
  readonly #about: PlannedConversation;
  readonly #deadly = new Set<string>();
  readonly #parts: SenderParts;
  readonly #over = new Set<string>();
  readonly #cancelled = new Set<string>();
  /** A cancel had no answer: any message may be one that it ended. */
  #isCancelUncertain = false;
  readonly #watchers = new Set<() => void>();

  constructor(about: PlannedConversation, parts: SenderParts) {
    const { conversation, agent, isScheduled, hasVolume, refuses } = about;
    this.#about = about;
    this.conversation = conversation;
    this.sessionId = deriveSessionId("per-thread", { tenant: TENANT, agent, channel: CHANNEL, conversation });
    this.hasVolume = hasVolume;
    this.refuses = refuses;
    this.scheduled = isScheduled ? planExtra(`${conversation}-scheduled`, hasVolume) : undefined;
    this.#parts = parts;
  }

  /** What was sent and has no answer yet. */
  get unanswered(): string[] {
    return this.messages.filter((sent) => !this.#isOver(sent)).map(({ planned }) => planned.id);
  }

  isDeadly(messageId: string): boolean {
    return this.#deadly.has(messageId);
  }

  mayBeCancelled(messageId: string): boolean {
    return this.#about.interrupts || this.#isCancelUncertain || this.#cancelled.has(messageId);
  }

  /** A message has its answer, or will get none. */
  over(messageId: string): void {
    this.#over.add(messageId);
    this.#notify();
  }

  /** One after another, as a person writes: the same order whichever dispatcher is up. */
  async sendAgain(): Promise<void> {
    await this.#schedule();
    for (const sent of this.messages) if (!this.#isOver(sent)) await this.#send(sent);
  }

  async run(): Promise<void> {
    const { plan, stopping, ended, ways, random } = this.#parts;
    await this.#schedule();
    for (const planned of plan) {
      await this.#until(() => this.unanswered.length < WINDOW, stopping);
      await delay(planned.pauseMs, undefined, { signal: stopping }).catch(() => undefined);
      if (stopping.aborted) break;
      if (planned.kind === "deadly") this.#deadly.add(this.#idOf(planned));
      await this.#begin(planned);
    }
    if (this.scheduled !== undefined) await ways.unschedule(this.scheduled.id, random);
    // With it the context that waits is told.
    await this.#begin(planExtra(`${this.conversation}-last`, this.hasVolume));
    await this.#until(() => this.unanswered.length === 0, ended);
  }

  async #begin(planned: PlannedMessage): Promise<void> {
    const sent: SentMessage = { planned, sentAt: Date.now(), acceptances: [] };
    this.messages.push(sent);
    await Promise.all([this.#send(sent), ...(planned.isTwice ? [this.#send(sent)] : [])]);
    // The answers of the others are their replies.
    if (planned.kind === "halt") void this.#halt(sent);
    // Also one that is to be cancelled: the next message may come before it was seen to run.
    if (this.#about.interrupts) void this.#awaitCancelled(sent);
  }

  async #schedule(): Promise<void> {
    if (this.scheduled === undefined || this.#parts.stopping.aborted) return;
    const { id, text } = this.scheduled;
    await this.#parts.ways.schedule(id, { ...this.#address(), text }, this.#parts.random);
  }

  /** Cancels the message's turn once it runs. */
  async #halt(sent: SentMessage): Promise<void> {
    const { ways, random } = this.#parts;
    await this.#look(sent, async (state) => {
      if (state !== "running") return false;
      const ended = await ways.cancel(this.sessionId, random);
      if (ended === "unknown") this.#isCancelUncertain = true;
      // It may be the turn after the one that was meant, and whatever was in it.
      else for (const id of ended) void this.#cancelled.add(id);
      return true;
    });
    await Promise.all(
      this.messages.filter((one) => !this.#isOver(one)).map((one) => this.#awaitCancelled(one)),
    );
  }

  /** A message that is cancelled gets no reply. */
  async #awaitCancelled(sent: SentMessage): Promise<void> {
    await this.#look(sent, async (state) => {
      if (state === "cancelled") this.over(this.#idOf(sent.planned));
      return state === "cancelled";
    });
  }

  /** Looks at a message's state until that was what is waited for, or the message is over. */
  async #look(sent: SentMessage, see: (state: string | undefined) => Promise<boolean>): Promise<void> {
    const { ways, random, ended } = this.#parts;
    while (!ended.aborted && !this.#isOver(sent)) {
      if (await see(await ways.stateOf(this.#idOf(sent.planned), random))) return;
      await delay(LOOK_MS);
    }
  }

  #isOver({ planned, refusal, acceptances }: SentMessage): boolean {
    if (refusal !== undefined) return true;
    if (planned.kind === "context") return acceptances.length > 0;
    return this.#over.has(this.#idOf(planned));
  }

  #idOf({ id }: PlannedMessage): string {
    return deriveMessageId(this.sessionId, id);
  }

  #address() {
    const { conversation, agent } = this.#about;
    return { agent, channel: CHANNEL, conversation };
  }

  async #send(sent: SentMessage): Promise<void> {
    const { ways, random, ended } = this.#parts;
    const { id, kind, text, way, laterMs, attachment } = sent.planned;
    const body = {
      ...{ id, ...this.#address(), sender: { id: "ada" }, text },
      ...(kind === "context" ? { wake: false } : {}),
      ...(laterMs === undefined ? {} : { notBefore: new Date(sent.sentAt + laterMs).toISOString() }),
      ...(attachment === undefined
        ? {}
        : { attachments: [{ name: nameOfAttachment(id), data: attachment.toString("base64") }] }),
    };
    if (way === "inbound") {
      // Without an end where Redis does not come back.
      const isOver = new Promise<void>((resolve) =>
        ended.addEventListener("abort", () => resolve(), { once: true }),
      );
      await Promise.race([ways.enqueue(body), isOver]);
      if (ended.aborted) return;
      sent.acceptances.push({
        at: Date.now(),
        messageId: this.#idOf(sent.planned),
        seq: null,
        duplicate: false,
      });
      return this.#notify();
    }
    while (!ended.aborted) {
      const posted = await ways.post(body, random);
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
