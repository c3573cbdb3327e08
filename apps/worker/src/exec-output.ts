import { StringDecoder } from "node:string_decoder";
import { z } from "zod";
import type { AgentUpdate } from "./agent.ts";

const directiveSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("delta"), text: z.string() }),
  z.object({ type: z.literal("reply"), text: z.string() }),
  z.object({ type: z.literal("file"), path: z.string().min(1) }),
]);

/** How the line of a directive begins: with an object, and nothing before it. */
const DIRECTIVE = "{";

/**
 * What a program of the `exec` contract writes: a line that is a JSON object of type `delta`, `reply` or `file` is that;
 * everything else is text, and is passed on as it comes, so that a line without an end is no burden. What is no UTF-8
 * is replaced (U+FFFD).
 */
export class ExecOutput {
  readonly #lineMax: number;
  readonly #onUpdate: (update: AgentUpdate) => void;
  readonly #decoder = new StringDecoder("utf8");
  /** A line that may be a directive, as far as it came. */
  #line = "";
  /** In the middle of a line that is none. */
  #isInText = false;

  /** @param lineMax longest line of a directive, in characters; a longer one is text */
  constructor(lineMax: number, onUpdate: (update: AgentUpdate) => void) {
    this.#lineMax = lineMax;
    this.#onUpdate = onUpdate;
  }

  write(bytes: Buffer): void {
    this.#take(this.#decoder.write(bytes));
  }

  end(): void {
    this.#take(this.#decoder.end());
    if (this.#line !== "") this.#endLine();
  }

  #take(text: string): void {
    let at = 0;
    while (at < text.length) {
      const mayBegin = this.#line === "" && !this.#isInText;
      if (this.#line === "" && !(mayBegin && text.startsWith(DIRECTIVE, at))) {
        // Up to where a line begins like a directive, in one piece: there may be many millions of lines.
        const next = text.indexOf(`\n${DIRECTIVE}`, at);
        const end = next === -1 ? text.length : next + 1;
        this.#say(text.slice(at, end));
        this.#isInText = !text.endsWith("\n", end);
        at = end;
        continue;
      }
      const newline = text.indexOf("\n", at);
      const end = newline === -1 ? text.length : newline + 1;
      this.#line += text.slice(at, end);
      at = end;
      if (newline !== -1) this.#endLine();
      else if (this.#line.length > this.#lineMax) {
        this.#say(this.#line);
        this.#line = "";
        this.#isInText = true;
      }
    }
  }

  #endLine(): void {
    const line = this.#line;
    this.#line = "";
    const directive = line.length > this.#lineMax ? undefined : directiveIn(line);
    if (directive === undefined) this.#say(line);
    else if (directive.type === "delta") this.#say(directive.text);
    else this.#onUpdate(directive);
  }

  #say(text: string): void {
    this.#onUpdate({ type: "text", text });
  }
}

function directiveIn(line: string): z.output<typeof directiveSchema> | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  return directiveSchema.safeParse(value).data;
}
