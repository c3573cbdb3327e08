import type { MessageAnswer } from "./api-schemas.ts";
import { MessageDeadError } from "./errors.ts";
import type { AskedQuestion, MessageWatcher, ToolCall } from "./message-watch.ts";
import type { Output } from "./output.ts";
import { printable, printableLine } from "./printable.ts";
import type { StatusLine } from "./status-line.ts";

/** Characters of a tool call's title that are shown. */
const TITLE_SHOWN = 100;
/** In front of what is said while a tool runs. */
const INDENT = "  | ";

export interface ReplyPrinterOptions {
  readonly output: Output;
  /** Where a terminal watches. */
  readonly status: StatusLine | undefined;
  /** Whether text is written as it comes; else only the replies, once they are published. */
  readonly streams: boolean;
}

/**
 * Shows a message on its way and its replies at the end.
 *
 * Streaming: tool calls, what is said while they run, and retries go to standard error: they are the work.
 * Other text goes to standard output as it comes. What was said since the last tool call or retry is, as a
 * rule, the reply; it is written again only where the reply turns out to be something else.
 */
export class ReplyPrinter implements MessageWatcher {
  readonly #options: ReplyPrinterOptions;
  readonly #openCalls = new Set<string>();
  /** Written to standard output since the last tool call or retry. */
  #said = "";
  #hasAsked = false;
  /** Where the last line that is not ended was written to. */
  #openLine: "output" | "note" | undefined;

  constructor(options: ReplyPrinterOptions) {
    this.#options = options;
  }

  onStatus = (text: string): void => this.#options.status?.show(text);

  onText = (text: string): void => {
    if (!this.#options.streams || text === "") return;
    this.#options.status?.hide();
    if (this.#openCalls.size > 0) this.#noteIndented(printable(text));
    else {
      this.#write(printable(text));
      this.#said += text;
    }
  };

  onTool = ({ id, title, status }: ToolCall): void => {
    const isOver = status === "completed" || status === "failed";
    const isNew = !isOver && !this.#openCalls.has(id);
    if (isOver) this.#openCalls.delete(id);
    else this.#openCalls.add(id);
    if (isNew) this.#interrupt(`· ${title?.slice(0, TITLE_SHOWN) ?? "tool"}`);
    else if (status === "failed") this.#interrupt("· failed");
    else if (isOver) this.#interrupt(undefined);
  };

  onQuestion = ({ text, options }: AskedQuestion): void => {
    this.#interrupt(undefined);
    this.#options.status?.hide();
    if (this.#options.output.json) return;
    this.#hasAsked = true;
    this.#write(`${printable([text, ...options.map((option, at) => `${at + 1}. ${option}`)].join("\n"))}\n`);
  };

  onRetry = (reason: string): void => {
    this.#openCalls.clear();
    this.#interrupt(`· ${reason}`);
  };

  /** Shows the end; throws `MessageDeadError` for a message that was given up on. */
  end(answer: MessageAnswer): void {
    this.#options.status?.hide();
    const { output } = this.#options;
    this.#endLine();
    if (output.json) output.result(answer, () => "");
    else {
      for (const { text, artifacts, question, kind } of answer.replies) {
        if (kind === "edit" || kind === "reaction") {
          output.note(`${kind}: ${printableLine(text)}\n`);
          continue;
        }
        // It was shown when it was asked.
        if (question !== undefined && this.#hasAsked) continue;
        if (text.trim() !== this.#said.trim()) this.#write(`${printable(text).trimEnd()}\n`);
        for (const { name, sizeBytes } of artifacts)
          output.note(`attached: ${printableLine(name)} (${sizeBytes} bytes)\n`);
      }
    }
    if (answer.state !== "answered") {
      throw new MessageDeadError(
        answer.error?.code ?? answer.state.toUpperCase(),
        printable(answer.error?.message ?? answer.state),
      );
    }
  }

  /** What was said before belongs to the work. */
  #interrupt(line: string | undefined): void {
    this.#said = "";
    if (!this.#options.streams) return;
    this.#options.status?.hide();
    this.#endLine();
    if (line !== undefined) this.#options.output.note(`${printableLine(line)}\n`);
  }

  #noteIndented(text: string): void {
    if (this.#openLine === "output") this.#endLine();
    const start = this.#openLine === "note" ? "" : INDENT;
    const ended = text.endsWith("\n");
    const lines = ended ? text.slice(0, -1) : text;
    this.#options.output.note(`${start}${lines.replaceAll("\n", `\n${INDENT}`)}${ended ? "\n" : ""}`);
    this.#openLine = ended ? undefined : "note";
  }

  #write(text: string): void {
    if (text === "") return;
    if (this.#openLine === "note") this.#endLine();
    this.#options.output.write(text);
    this.#openLine = text.endsWith("\n") ? undefined : "output";
  }

  #endLine(): void {
    if (this.#openLine === "output") this.#options.output.write("\n");
    if (this.#openLine === "note") this.#options.output.note("\n");
    this.#openLine = undefined;
  }
}
