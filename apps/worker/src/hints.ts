/** Tells whoever listens that something may have happened to the session; what, they find out by themselves. */
export class Hints {
  readonly #listeners = new Set<() => void>();

  /** @returns ends it */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  give(): void {
    for (const listener of this.#listeners) listener();
  }
}
