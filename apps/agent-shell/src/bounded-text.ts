/**
 * Text that is kept up to a limit; what goes beyond is counted and dropped.
 */
export class BoundedText {
  readonly #limit: number;
  #kept = "";
  #length = 0;

  /** @param limit Characters (UTF-16 code units) to keep. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  append(text: string): void {
    this.#length += text.length;
    const room = this.#limit - this.#kept.length;
    if (room > 0) {
      this.#kept += text.slice(0, room);
    }
  }

  /** What was kept, with a line that says how much was dropped where something was. */
  toString(): string {
    const dropped = this.#length - this.#kept.length;
    return dropped === 0 ? this.#kept : `${this.#kept}\n[cut: ${dropped} more characters]`;
  }
}
