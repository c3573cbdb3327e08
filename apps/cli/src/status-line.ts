import type { Clock } from "@longshore/shared";
import { printableLine } from "./printable.ts";

const REDRAW_MS = 250;
const CLEAR = "\r\u001b[K";

export interface StatusLineOptions {
  /** Writes to the terminal. */
  readonly write: (text: string) => void;
  /** Width of the terminal in characters. */
  readonly columns: () => number;
  readonly clock: Clock;
}

/**
 * One line at the end of a terminal that says what is going on and for how long. States: hidden (nothing
 * drawn, no timer) ⇄ shown (redrawn four times a second). Whoever writes anything else hides it first.
 */
export class StatusLine {
  readonly #options: StatusLineOptions;
  readonly #start: number;
  #text = "";
  #timer: NodeJS.Timeout | undefined;

  constructor(options: StatusLineOptions) {
    this.#options = options;
    this.#start = options.clock.monotonic();
  }

  show(text: string): void {
    this.#text = text;
    this.#timer ??= setInterval(() => this.#draw(), REDRAW_MS).unref();
    this.#draw();
  }

  /** Other words at the next redraw: for who has new ones more often than anybody reads. */
  update(text: string): void {
    this.#text = text;
  }

  hide(): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#options.write(CLEAR);
  }

  #draw(): void {
    const seconds = ((this.#options.clock.monotonic() - this.#start) / 1_000).toFixed(1);
    const line = printableLine(`… ${this.#text} (${seconds} s)`);
    this.#options.write(`${CLEAR}${line.slice(0, this.#options.columns() - 1)}`);
  }
}
