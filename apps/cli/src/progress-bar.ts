import type { StatusLine } from "./status-line.ts";

const WIDTH = 24;
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** A number of bytes as people read it: `1.5 MiB`. */
export function showBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

/** How far something is, in a line: what, a bar, per cent, bytes. */
export function showProgress(what: string, done: number, total: number): string {
  const part = total === 0 ? 1 : Math.min(done / total, 1);
  const filled = Math.round(part * WIDTH);
  const bar = "█".repeat(filled) + "░".repeat(WIDTH - filled);
  return `${what} ${bar} ${Math.floor(part * 100)}% of ${showBytes(total)}`;
}

/**
 * A bar for what takes a while, where a terminal watches; elsewhere nothing. It comes into sight once a second has gone by
 * since it was made: what is quicker needs none.
 */
export class ProgressBar implements Disposable {
  readonly #line: StatusLine | undefined;
  readonly #timer: NodeJS.Timeout | undefined;
  #text: string;
  #visible = false;

  constructor(line: StatusLine | undefined, what: string, { delayMs = 1_000 } = {}) {
    this.#line = line;
    this.#text = what;
    if (line === undefined) return;
    this.#timer = setTimeout(() => {
      this.#visible = true;
      line.show(this.#text);
    }, delayMs).unref();
  }

  /** Says what goes on now. */
  show(text: string): void {
    this.#text = text;
    if (this.#visible) this.#line?.update(text);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#line?.hide();
  }
}

/** Counts bytes, and says so on a bar. */
export class ByteCounter {
  readonly #bar: ProgressBar;
  readonly #what: string;
  readonly #total: number;
  #done = 0;

  constructor(bar: ProgressBar, what: string, totalBytes: number) {
    this.#bar = bar;
    this.#what = what;
    this.#total = totalBytes;
    this.add(0);
  }

  add(bytes: number): void {
    this.#done += bytes;
    this.#bar.show(showProgress(this.#what, this.#done, this.#total));
  }
}
