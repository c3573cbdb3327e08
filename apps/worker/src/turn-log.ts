import type { Clock } from "@longshore/shared";
import type { AgentUpdate } from "./agent.ts";

/** Bytes that are kept of the beginning, and as many of the end. */
const HALF_BYTES = 512 * 1024;
/** Longest text of one entry, in characters. */
const TEXT_MAX = 16 * 1024;

/**
 * What happened in one attempt at a turn, for whoever has to find out why: a line of JSON for each event, with its time. The
 * beginning and the end are kept, 512 KiB of each; what is lost in between is counted.
 */
export class TurnLog {
  readonly startedMs: number;
  readonly #clock: Clock;
  readonly #head: string[] = [];
  #headBytes = 0;
  #isHeadFull = false;
  readonly #tail: string[] = [];
  #tailBytes = 0;
  #lost = 0;
  /** Text that is not an entry yet: pieces come by the thousand. */
  #text = "";
  #textAt = "";

  constructor(clock: Clock, about: Readonly<Record<string, unknown>>) {
    this.#clock = clock;
    this.startedMs = clock.now();
    this.add("turn", about);
  }

  add(type: string, what: Readonly<Record<string, unknown>>): void {
    this.#flushText();
    this.#append(type, what, this.#now);
  }

  update(update: AgentUpdate): void {
    if (update.type !== "text") {
      const { type, ...what } = update;
      this.add(type, what);
      return;
    }
    if (this.#text === "") this.#textAt = this.#now;
    this.#text += update.text;
    if (this.#text.length >= TEXT_MAX) this.#flushText();
  }

  /** All of it, as NDJSON. */
  read(): Buffer {
    this.#flushText();
    const lost = this.#lost === 0 ? [] : [`${JSON.stringify({ type: "lost", entries: this.#lost })}\n`];
    return Buffer.from([...this.#head, ...lost, ...this.#tail].join(""));
  }

  get #now(): string {
    return new Date(this.#clock.now()).toISOString();
  }

  #flushText(): void {
    const text = this.#text;
    this.#text = "";
    for (let at = 0; at < text.length; at += TEXT_MAX)
      this.#append("text", { text: text.slice(at, at + TEXT_MAX) }, this.#textAt);
  }

  #append(type: string, what: Readonly<Record<string, unknown>>, at: string): void {
    const line = `${JSON.stringify({ at, type, ...what }, shortened)}\n`;
    const bytes = Buffer.byteLength(line);
    if (!this.#isHeadFull && this.#headBytes + bytes <= HALF_BYTES) {
      this.#head.push(line);
      this.#headBytes += bytes;
      return;
    }
    this.#isHeadFull = true;
    this.#tail.push(line);
    this.#tailBytes += bytes;
    while (this.#tailBytes > HALF_BYTES && this.#tail.length > 1) {
      this.#tailBytes -= Buffer.byteLength(this.#tail.shift() as string);
      this.#lost++;
    }
  }
}

function shortened(_key: string, value: unknown): unknown {
  return typeof value === "string" && value.length > TEXT_MAX ? `${value.slice(0, TEXT_MAX)}…` : value;
}
