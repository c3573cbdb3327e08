/**
 * Collects what the agent says in a turn. The reply is what the agent said to be the reply (the last such text, or all
 * of them, as the definition says); else the text after the last tool call, or all of it where nothing follows or the
 * definition says so. Bounded: what goes beyond is counted and marked (I11).
 */
export class ReplyText {
  readonly #maxBytes: number;
  readonly #all = new BoundedText();
  readonly #last = new BoundedText();
  readonly #replies = new BoundedText();
  readonly #lastReply = new BoundedText();
  #hasReplied = false;
  #cutBecause: string | undefined;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  append(text: string): void {
    this.#all.append(text, this.#maxBytes);
    this.#last.append(text, this.#maxBytes);
  }

  toolCalled(): void {
    this.#last.clear();
  }

  /** A text that is the reply, whatever else is said. */
  reply(text: string): void {
    if (this.#hasReplied) this.#replies.append("\n\n", this.#maxBytes);
    this.#hasReplied = true;
    this.#replies.append(text, this.#maxBytes);
    this.#lastReply.clear();
    this.#lastReply.append(text, this.#maxBytes);
  }

  /** It ends before its time: the reply says why. */
  cut(reason: string): void {
    this.#cutBecause = reason;
  }

  read(which: "last" | "all"): string {
    const text = this.#read(which);
    return this.#cutBecause === undefined ? text : `${text.trimEnd()}\n[cut: ${this.#cutBecause}]`;
  }

  #read(which: "last" | "all"): string {
    if (this.#hasReplied) return (which === "last" ? this.#lastReply : this.#replies).toString();
    const last = this.#last.toString();
    return which === "last" && last.trim() !== "" ? last : this.#all.toString();
  }
}

class BoundedText {
  #parts: string[] = [];
  #bytes = 0;
  #cutBytes = 0;

  append(text: string, maxBytes: number): void {
    // Counted by bytes: pieces without any would be kept without a bound.
    if (text === "") return;
    const bytes = Buffer.byteLength(text);
    if (this.#cutBytes > 0 || this.#bytes + bytes > maxBytes) {
      const room = this.#cutBytes > 0 ? 0 : maxBytes - this.#bytes;
      // `toString` of cut UTF-8 ends in a replacement character, which is taken off.
      const kept = Buffer.from(text)
        .subarray(0, room)
        .toString()
        .replace(/\uFFFD$/, "");
      if (kept) this.#parts.push(kept);
      this.#bytes += Buffer.byteLength(kept);
      this.#cutBytes += bytes - Buffer.byteLength(kept);
      return;
    }
    this.#parts.push(text);
    this.#bytes += bytes;
  }

  clear(): void {
    this.#parts = [];
    this.#bytes = 0;
    this.#cutBytes = 0;
  }

  toString(): string {
    const text = this.#parts.join("");
    return this.#cutBytes > 0 ? `${text}\n[cut: ${this.#cutBytes} more bytes]` : text;
  }
}
