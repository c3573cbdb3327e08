import type { Commit } from "@longshore/session-store";
import type { AgentDefinition, Clock, NextMessages, SessionState, WaitingMessage } from "@longshore/shared";
import type { CommitPoint } from "./commit-point.ts";
import { grantsOf, haveSameGrants } from "./grants.ts";
import type { Hints } from "./hints.ts";

/** Messages of a turn that was rolled back and those that came behind them: so many become one turn at most. */
const ROLLED_BACK_TOGETHER = 100;

/**
 * Decides which of the messages that wait make the next turn: the head of the mailbox, and by the agent's `busy` those
 * behind it.
 *
 * With `coalesce` it waits: looking → (too few, too young) waiting → (a hint, or the time) looking → done, when no
 * message came for the quiet time, the first waits for the longest, or the count is reached. With `rollback` those that
 * are there are taken. Never in a turn with others: an operation, and a message that failed or was in a turn that did, so
 * that one that spoils a turn is found, and is alone with its failures.
 */
export class Gathering {
  readonly #state: SessionState;
  readonly #commits: CommitPoint;
  readonly #definition: AgentDefinition;
  readonly #hints: Hints;
  readonly #clock: Clock;
  readonly #isOver: () => boolean;
  readonly #signal: AbortSignal;

  constructor(options: {
    readonly state: SessionState;
    readonly commits: CommitPoint;
    readonly definition: AgentDefinition;
    readonly hints: Hints;
    readonly clock: Clock;
    /** Whether nothing more is waited for, since the worker stops or the place is wanted; looked at after each hint. */
    readonly isOver: () => boolean;
    /** Ends the wait, with its reason. */
    readonly signal: AbortSignal;
  }) {
    this.#state = options.state;
    this.#commits = options.commits;
    this.#definition = options.definition;
    this.#hints = options.hints;
    this.#clock = options.clock;
    this.#isOver = options.isOver;
    this.#signal = options.signal;
  }

  /** What waits at the head of the mailbox, of one turn; undefined where others are to be waited for, and it is over. */
  async next(base: Commit | undefined): Promise<NextMessages | undefined> {
    const { busy, coalesce } = this.#definition;
    const limit = { coalesce: coalesce.messages, rollback: ROLLED_BACK_TOGETHER }[busy as string] ?? 1;
    for (;;) {
      let told = false;
      let onHint: () => void = () => {
        told = true;
      };
      // Before it is looked, so that no message comes in between unnoticed.
      const unlisten = this.#hints.listen(() => onHint());
      try {
        const next = await this.#commits.nextMessages(base, limit);
        const waking = await this.#together(next.waking);
        const waitMs = waking.length < next.waking.length ? 0 : this.#waitMs(waking);
        if (waitMs <= 0) return { ...next, waking };
        if (this.#isOver()) return undefined;
        await new Promise<void>((resolve, reject) => {
          const timer = setTimeout(resolve, told ? 0 : waitMs);
          const onAbort = () => {
            clearTimeout(timer);
            reject(this.#signal.reason);
          };
          onHint = () => {
            clearTimeout(timer);
            this.#signal.removeEventListener("abort", onAbort);
            resolve();
          };
          if (this.#signal.aborted) onAbort();
          else this.#signal.addEventListener("abort", onAbort, { once: true });
        });
      } finally {
        unlisten();
      }
    }
  }

  /** Those from the first on that may be one turn. */
  async #together(waking: readonly WaitingMessage[]): Promise<readonly WaitingMessage[]> {
    const operation = waking.findIndex(({ message }) => message.operation !== undefined);
    const before = operation < 0 ? waking : waking.slice(0, Math.max(operation, 1));
    const messages = this.#ofOneSandbox(before);
    if (messages.length < 2) return messages;
    const singles = await this.#state.readSingles(messages.map(({ message }) => message.id));
    const single = singles.indexOf(true);
    return single < 0 ? messages : messages.slice(0, Math.max(single, 1));
  }

  /** What one user's turn shows is no other one's to ask about. */
  #ofOneSandbox(waking: readonly WaitingMessage[]): readonly WaitingMessage[] {
    const [first] = waking;
    if (first === undefined) return waking;
    const grants = grantsOf(this.#definition, first.message);
    const other = waking.findIndex(
      ({ message }) => !haveSameGrants(grantsOf(this.#definition, message), grants),
    );
    return other < 0 ? waking : waking.slice(0, other);
  }

  /** How long others are waited for. By the clocks of those who accepted: one that is wrong makes the wait no longer. */
  #waitMs(messages: readonly WaitingMessage[]): number {
    const { busy, coalesce } = this.#definition;
    const first = messages[0]?.message;
    const last = messages.at(-1)?.message;
    if (busy !== "coalesce" || first === undefined || last === undefined) return 0;
    if (first.operation !== undefined || messages.length >= coalesce.messages) return 0;
    const age = ({ acceptedAt }: typeof first) => Math.max(this.#clock.now() - Date.parse(acceptedAt), 0);
    return Math.min(coalesce.quiet - age(last), coalesce.longest - age(first));
  }
}
