/** The bytes end, or hold something else, where the format wants a value. */
export class MalformedBytesError extends Error {}

/** Reads what `ByteWriter` wrote, out of bytes that nobody vouches for. Every method throws `MalformedBytesError`. */
export class ByteReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get remaining(): number {
    return this.#bytes.length - this.#at;
  }

  integer(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (value > Number.MAX_SAFE_INTEGER) throw new MalformedBytesError("an integer is too large");
      if (byte < 0x80) return value;
      scale *= 0x80;
      if (scale > 2 ** 53) throw new MalformedBytesError("an integer is too long");
    }
  }

  /** An integer that says how many things follow, each of which takes at least `unitBytes`: so it can't be absurd. */
  count(unitBytes: number): number {
    const value = this.integer();
    if (value * unitBytes > this.remaining)
      throw new MalformedBytesError(`a count of ${value} exceeds the data`);
    return value;
  }

  byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new MalformedBytesError("the data ends early");
    return byte;
  }

  bytes(length: number): Buffer {
    if (length > this.remaining) throw new MalformedBytesError("the data ends early");
    const start = this.#at;
    this.#at += length;
    return this.#bytes.subarray(start, this.#at);
  }

  latin1(length: number): string {
    if (length > this.remaining) throw new MalformedBytesError("the data ends early");
    const start = this.#at;
    this.#at += length;
    return this.#bytes.toString("latin1", start, this.#at);
  }

  /** @throws MalformedBytesError when something is left */
  end(): void {
    if (this.remaining > 0) throw new MalformedBytesError(`${this.remaining} bytes are left over`);
  }
}
