import { once } from "node:events";
import type { Writable } from "node:stream";
import { LongshoreError } from "@longshore/shared";

type TerminalStream = Writable & { readonly isTTY?: boolean; readonly columns?: number };

export interface OutputOptions {
  readonly stdout: TerminalStream;
  readonly stderr: TerminalStream;
}

/**
 * Where a command writes: results to standard output, as text or (with `--json`) as one JSON value;
 * progress and errors to standard error.
 */
export class Output {
  readonly #stdout: TerminalStream;
  readonly #stderr: TerminalStream;
  /** Set by `--json`, once the command line is read. */
  json = false;

  constructor({ stdout, stderr }: OutputOptions) {
    this.#stdout = stdout;
    this.#stderr = stderr;
  }

  /** Whether somebody watches the results as they come. */
  get isTerminal(): boolean {
    return this.#stdout.isTTY === true && this.#stderr.isTTY === true && !this.json;
  }

  get columns(): number {
    return this.#stderr.columns ?? 80;
  }

  /** A command's result: `value` where JSON is asked for, else what `text` makes of it. */
  result(value: unknown, text: () => string): void {
    this.write(this.json ? `${JSON.stringify(value)}\n` : text());
  }

  /** Text to standard output as it is. */
  write(text: string): void {
    this.#stdout.write(text);
  }

  /** Bytes to standard output, as fast as they are taken. */
  async writeAll(bytes: Uint8Array): Promise<void> {
    if (!this.#stdout.write(bytes)) await once(this.#stdout, "drain");
  }

  /** Text to standard error as it is. */
  note(text: string): void {
    this.#stderr.write(text);
  }

  /** Says why a command failed: one line, or with `--json` one object. */
  error(error: unknown): void {
    if (!(error instanceof LongshoreError)) {
      this.note(`longshore: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    } else if (this.json) {
      const { code, message, retryable } = error;
      this.note(`${JSON.stringify({ error: { code, message, retryable } })}\n`);
    } else {
      this.note(`longshore: ${error.message} [${error.code}]\n`);
    }
  }
}

/** Rows as columns, each as wide as its widest cell; nothing where there are no rows. */
export function columns(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}
