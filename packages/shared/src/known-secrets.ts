/** What stands in a text in place of a secret. */
export const CENSOR = "[redacted]";

/** Shorter values are not looked for: they stand in too many texts by chance. */
const SHORTEST = 6;

/**
 * Values (keys, passwords) that no line of a log may hold. More may become known while the process runs, with a new
 * configuration; none is forgotten, since what was begun with an old one may still speak of it.
 */
export class KnownSecrets {
  readonly #values = new Set<string>();
  /** As they stand in JSON, the longest first: one may contain another. */
  #escaped: readonly string[] = [];

  constructor(values: Iterable<string> = []) {
    this.add(values);
  }

  add(values: Iterable<string>): void {
    for (const value of values) if (value.length >= SHORTEST) this.#values.add(value);
    this.#escaped = [...this.#values]
      .sort((a, b) => b.length - a.length)
      .map((secret) => JSON.stringify(secret).slice(1, -1));
  }

  /** Takes them out of a line of JSON. */
  redact(line: string): string {
    return this.#escaped.reduce((text, secret) => text.replaceAll(secret, CENSOR), line);
  }
}
