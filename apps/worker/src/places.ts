/** What holds a place and can be asked to give it back. */
export interface PlaceHolder {
  /** Monotonic time since when it lingers; undefined while it is at work. */
  readonly lingeringSince: number | undefined;
  /** Asks it to end; it gives its place back when it has. */
  evict(): void;
}

/**
 * A worker's places. One that asks when all are taken evicts the activation that has lingered longest, and
 * waits for its turn, first come, first served; where none lingers it waits for whichever ends first.
 */
export class Places {
  readonly #count: number;
  readonly #holders = new Map<number, PlaceHolder | undefined>();
  readonly #waiting: ((place: number) => void)[] = [];

  constructor(count: number) {
    this.#count = count;
  }

  get taken(): number {
    return this.#holders.size;
  }

  /** True where somebody waits for a place: nothing should begin to linger now. */
  get wanted(): boolean {
    return this.#waiting.length > 0;
  }

  /** The number of a place (from 0), held until `release`; rejects with the signal's reason. */
  async acquire(signal: AbortSignal): Promise<number> {
    signal.throwIfAborted();
    for (let place = 0; place < this.#count; place++) {
      if (this.#holders.has(place)) continue;
      this.#holders.set(place, undefined);
      return place;
    }
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#waiting.splice(this.#waiting.indexOf(onPlace), 1);
        reject(signal.reason);
      };
      const onPlace = (place: number) => {
        signal.removeEventListener("abort", onAbort);
        resolve(place);
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(onPlace);
      this.#evictLongestLingering();
    });
  }

  /** Says who holds a place, so that it can be evicted. */
  occupy(place: number, holder: PlaceHolder): void {
    this.#holders.set(place, holder);
  }

  release(place: number): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#holders.delete(place);
    else {
      this.#holders.set(place, undefined);
      next(place);
    }
  }

  #evictLongestLingering(): void {
    let longest: PlaceHolder | undefined;
    for (const holder of this.#holders.values()) {
      if (holder?.lingeringSince === undefined) continue;
      if (longest?.lingeringSince === undefined || holder.lingeringSince < longest.lingeringSince)
        longest = holder;
    }
    longest?.evict();
  }
}
