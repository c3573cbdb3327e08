import { abortable } from "./abortable.ts";

interface Cached<T> {
  readonly value: Promise<T>;
  /** Undefined until it was made. */
  bytes: number | undefined;
}

/**
 * Values in memory that are costly to make and never change, by name; those used longest ago go first when they take too
 * much. One that is wanted by several at once is made once.
 */
export class SharedCache<T> {
  readonly #maxBytes: number;
  readonly #sizeOf: (value: T) => number;
  /** In the order of their last use. */
  readonly #values = new Map<string, Cached<T>>();
  #bytes = 0;

  /**
   * @param maxBytes for all values; a single one above it is kept alone
   * @param sizeOf how many bytes a value takes
   */
  constructor(maxBytes: number, sizeOf: (value: T) => number) {
    this.#maxBytes = maxBytes;
    this.#sizeOf = sizeOf;
  }

  /**
   * @param make not ended by anybody's signal, because others may wait for it: has to be bounded in time by itself. What
   *   fails is not kept
   */
  get(name: string, make: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const cached = this.#values.get(name) ?? this.#make(name, make);
    this.#values.delete(name);
    this.#values.set(name, cached);
    return abortable(cached.value, signal);
  }

  drop(name: string): void {
    const cached = this.#values.get(name);
    this.#values.delete(name);
    this.#bytes -= cached?.bytes ?? 0;
  }

  #make(name: string, make: () => Promise<T>): Cached<T> {
    const cached: Cached<T> = { value: make(), bytes: undefined };
    cached.value.then(
      (value) => {
        // Dropped while it was made.
        if (this.#values.get(name) !== cached) return;
        cached.bytes = this.#sizeOf(value);
        this.#bytes += cached.bytes;
        this.#evict();
      },
      () => {
        if (this.#values.get(name) === cached) this.#values.delete(name);
      },
    );
    return cached;
  }

  #evict(): void {
    for (const [name, { bytes }] of this.#values) {
      if (this.#bytes <= this.#maxBytes || this.#values.size === 1) return;
      if (bytes !== undefined) this.drop(name);
    }
  }
}
