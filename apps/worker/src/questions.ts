import {
  type AcceptedMessage,
  type AskedQuestion,
  type Clock,
  hashId,
  type SessionState,
} from "@longshore/shared";
import { TooManyQuestionsError } from "./errors.ts";
import type { Hints } from "./hints.ts";
import { type Answer, chosenOption, type Question } from "./question.ts";

/** How often the answer is looked for without a hint, in ms: hints may be lost. */
const POLL_MS = 5_000;
/** Questions of one turn. */
const QUESTIONS_MAX = 50;

export interface QuestionsOptions {
  readonly state: SessionState;
  readonly sessionId: string;
  readonly turnId: string;
  readonly hints: Hints;
  readonly clock: Clock;
  /** The messages of the turn: whoever sent one of them may answer. */
  readonly waking: readonly AcceptedMessage[];
  /** Says the question to the conversation, from when on it can be answered. */
  readonly say: (question: AskedQuestion) => Promise<unknown>;
  /** Ends every wait, with its reason. */
  readonly signal: AbortSignal;
}

/**
 * What a turn asks, one question after another: asked → (a message of who may answer) answered, or → (the time) over. The answer stays
 * in the mailbox until the turn's commit ends it with the turn's own messages; another attempt at the turn that asks the same is
 * given the same answer, and asks nobody.
 */
export class Questions {
  readonly #options: QuestionsOptions;
  readonly #answers: AcceptedMessage[] = [];
  /** How often each was asked in this attempt. */
  readonly #asked = new Map<string, number>();
  #count = 0;
  #waiting = 0;
  #endedAt = Number.NEGATIVE_INFINITY;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: QuestionsOptions) {
    this.#options = options;
  }

  /** Messages that answered questions of this turn. */
  get answers(): readonly AcceptedMessage[] {
    return this.#answers;
  }

  /** See `PromptOptions.askedUntil`. */
  get askedUntil(): number {
    return this.#waiting > 0 ? this.#options.clock.monotonic() : this.#endedAt;
  }

  /** @returns undefined when nobody answered in time. @throws TooManyQuestionsError; errors of `say`; the signal's reason */
  async ask(question: Question): Promise<Answer | undefined> {
    if (++this.#count > QUESTIONS_MAX) throw new TooManyQuestionsError(QUESTIONS_MAX);
    this.#waiting++;
    try {
      const answer = this.#last.then(() => this.#ask(question));
      this.#last = answer.catch(() => undefined);
      return await answer;
    } finally {
      this.#waiting--;
      this.#endedAt = this.#options.clock.monotonic();
    }
  }

  async #ask(question: Question): Promise<Answer | undefined> {
    const { state, sessionId, turnId, waking, say, signal } = this.#options;
    signal.throwIfAborted();
    const { waitMs } = question;
    const id = this.#idOf(question);
    if ((await state.readAnswer(sessionId, id)) === undefined)
      await say({ ...question, id, turnId, askedOf: waking });
    const answer = await this.#untilAnswered(id, waitMs);
    if (answer === undefined) return undefined;
    this.#answers.push(answer);
    return { text: answer.text, option: chosenOption(answer.text, question.options) };
  }

  /** The same for the same question in another attempt. */
  #idOf({ text, options }: Question): string {
    const words = JSON.stringify([text, options]);
    const nth = this.#asked.get(words) ?? 0;
    this.#asked.set(words, nth + 1);
    return hashId("question", this.#options.waking[0]?.id ?? "", words, String(nth));
  }

  async #untilAnswered(id: string, waitMs: number): Promise<AcceptedMessage | undefined> {
    const { state, sessionId, hints, signal } = this.#options;
    const over = AbortSignal.timeout(Math.ceil(waitMs));
    for (;;) {
      const woken = Promise.withResolvers<void>();
      const wake = () => woken.resolve();
      // Before it is looked, so that no message comes in between unnoticed.
      const unlisten = hints.listen(wake);
      const timer = setTimeout(wake, POLL_MS);
      for (const ends of [signal, over]) ends.addEventListener("abort", wake, { once: true });
      try {
        const answer = await state.readAnswer(sessionId, id);
        if (answer !== undefined) return answer;
        signal.throwIfAborted();
        if (over.aborted) return undefined;
        await woken.promise;
        signal.throwIfAborted();
      } finally {
        unlisten();
        clearTimeout(timer);
        for (const ends of [signal, over]) ends.removeEventListener("abort", wake);
      }
    }
  }
}
