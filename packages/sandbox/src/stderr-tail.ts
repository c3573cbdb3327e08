/** How much of standard error is kept, in bytes. */
const TAIL_BYTES = 16 * 1024;
/** How many lines of it are told. */
const TAIL_LINES = 40;

/**
 * Keeps the end of a byte stream in a ring of fixed size, so that endless standard error costs nothing but
 * the reading.
 */
export class StderrTail {
  readonly #ring = Buffer.alloc(TAIL_BYTES);
  #written = 0;

  append(chunk: Uint8Array): void {
    const kept = chunk.length > TAIL_BYTES ? chunk.subarray(chunk.length - TAIL_BYTES) : chunk;
    this.#written += chunk.length - kept.length;
    const start = this.#written % TAIL_BYTES;
    const first = Math.min(kept.length, TAIL_BYTES - start);
    this.#ring.set(kept.subarray(0, first), start);
    this.#ring.set(kept.subarray(first), 0);
    this.#written += kept.length;
  }

  /** The last lines, at most 40 and 16 KiB. A line or character whose beginning is gone is left out. */
  text(): string {
    if (this.#written <= TAIL_BYTES) return lastLines(this.#ring.subarray(0, this.#written));
    const start = this.#written % TAIL_BYTES;
    const bytes = Buffer.concat([this.#ring.subarray(start), this.#ring.subarray(0, start)]);
    return lastLines(bytes.subarray(lengthOfContinuation(bytes)));
  }
}

/** Bytes at the beginning that continue a character whose first byte is not there. */
function lengthOfContinuation(bytes: Buffer): number {
  let length = 0;
  while (length < 3 && ((bytes[length] ?? 0) & 0xc0) === 0x80) length++;
  return length;
}

function lastLines(bytes: Buffer): string {
  return bytes.toString("utf8").trimEnd().split("\n").slice(-TAIL_LINES).join("\n").toWellFormed();
}
