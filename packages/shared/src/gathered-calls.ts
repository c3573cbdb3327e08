/**
 * Makes one call of several that are asked for at the same time.
 *
 * idle → (`add`) calling, with what was asked for at that moment; calling: what is asked for meanwhile waits, at most a
 * call's time → (answer) calling again with all that waits, or idle. So nobody waits where nothing is busy, and where
 * much is, its cost is that of a few calls. A call that fails fails for everybody in it.
 */
export class GatheredCalls<Item, Result> {
  readonly #call: (items: readonly Item[]) => Promise<readonly Result[]>;
  readonly #most: number;
  readonly #onIdle: () => void;
  #waiting: { item: Item; resolve: (result: Result) => void; reject: (error: unknown) => void }[] = [];
  #isCalling = false;

  /**
   * @param call answers each item, in their order
   * @param most items of one call
   * @param onIdle told when nobody waits any more
   */
  constructor(
    call: (items: readonly Item[]) => Promise<readonly Result[]>,
    most: number,
    onIdle: () => void = () => undefined,
  ) {
    this.#call = call;
    this.#most = most;
    this.#onIdle = onIdle;
  }

  add(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      if (!this.#isCalling) void this.#drain();
    });
  }

  async #drain(): Promise<void> {
    this.#isCalling = true;
    // Those that are told something at this moment ask together, too.
    await undefined;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, this.#most);
      try {
        const results = await this.#call(batch.map(({ item }) => item));
        batch.forEach(({ resolve }, index) => {
          resolve(results[index] as Result);
        });
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#isCalling = false;
    this.#onIdle();
  }
}

/** The same for each of many subjects, which are forgotten as soon as nobody waits for them. */
export class GatheredCallsByKey<Item, Result> {
  readonly #call: (key: string, items: readonly Item[]) => Promise<readonly Result[]>;
  readonly #most: number;
  readonly #calls = new Map<string, GatheredCalls<Item, Result>>();

  constructor(call: (key: string, items: readonly Item[]) => Promise<readonly Result[]>, most: number) {
    this.#call = call;
    this.#most = most;
  }

  add(key: string, item: Item): Promise<Result> {
    let calls = this.#calls.get(key);
    if (calls === undefined) {
      calls = new GatheredCalls(
        (items) => this.#call(key, items),
        this.#most,
        () => this.#calls.delete(key),
      );
      this.#calls.set(key, calls);
    }
    return calls.add(item);
  }
}
