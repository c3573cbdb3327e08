import { type Logger, type SessionState, TurnCancelledError } from "@longshore/shared";
import { RolledBackError } from "./errors.ts";
import type { Hints } from "./hints.ts";

/** How often the mark is looked for without a hint, in ms: hints may be lost. */
const POLL_MS = 5_000;

/**
 * Looks, while a turn runs, whether it is to end before its time.
 *
 * watching → (a hint, or a while has gone by) reading → watching, or marked: `signal` is aborted, with a
 * `TurnCancelledError` or a `RolledBackError`. One read at a time; a hint that comes during it makes another one. A
 * read that fails is made up for by the next.
 */
export class MarkWatch {
  readonly #state: SessionState;
  readonly #sessionId: string;
  readonly #turnId: string;
  readonly #messageIds: () => readonly string[];
  readonly #log: Logger;
  readonly #marked = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #stopListening: () => void;
  #reading: Promise<void> | undefined;
  #readAgain = false;
  #isStopped = false;

  constructor(options: {
    readonly state: SessionState;
    readonly sessionId: string;
    readonly turnId: string;
    readonly messageIds: () => readonly string[];
    readonly hints: Hints;
    readonly log: Logger;
  }) {
    this.#state = options.state;
    this.#sessionId = options.sessionId;
    this.#turnId = options.turnId;
    this.#messageIds = options.messageIds;
    this.#log = options.log;
    this.#timer = setInterval(() => this.#look(), POLL_MS);
    this.#stopListening = options.hints.listen(() => this.#look());
  }

  get signal(): AbortSignal {
    return this.#marked.signal;
  }

  stop(): void {
    this.#isStopped = true;
    clearInterval(this.#timer);
    this.#stopListening();
  }

  #look(): void {
    if (this.#isStopped) return;
    this.#readAgain = this.#reading !== undefined;
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
      if (this.#readAgain) this.#look();
    });
  }

  async #read(): Promise<void> {
    try {
      const mark = await this.#state.readMark(this.#sessionId, this.#turnId);
      if (mark === undefined || this.#isStopped) return;
      this.#log.info({ mark }, "the turn is to end before its time");
      this.stop();
      this.#marked.abort(
        mark === "rollback" ? new RolledBackError() : new TurnCancelledError(this.#messageIds()),
      );
    } catch (error) {
      this.#log.warn({ err: error }, "whether the turn is cancelled can't be read");
    }
  }
}
