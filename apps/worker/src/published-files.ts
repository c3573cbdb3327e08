import type { Commit, SessionRef, SessionStore } from "@longshore/session-store";
import { hashId, type Logger } from "@longshore/shared";
import { readNote } from "./commit-notes.ts";

/**
 * Keeps the plain objects of an agent's `publish` patterns equal to the newest whole generation.
 *
 * Objects are overwritten, and nothing says of them what they are equal to. So it is known only while this activation,
 * or the one before it, which released the session, has published every commit it made:
 *
 * - unknown: after a worker's death or a failed publication, and where the patterns are new. The next publication puts
 *   all files, and deletes what is too much.
 * - known: it puts what is different from the generation that was published last.
 *
 * A failure is logged and fails nothing else: the commit stands. The lease must not be released as clean then.
 */
export class PublishedFiles {
  readonly #store: SessionStore;
  readonly #ref: SessionRef;
  readonly #patterns: readonly string[];
  readonly #log: Logger;
  readonly #signal: AbortSignal;
  /** What the objects are equal to; undefined: that is not known. */
  #published: Commit | undefined;
  #isUpToDate = true;

  constructor(options: {
    readonly store: SessionStore;
    readonly ref: SessionRef;
    readonly patterns: readonly string[];
    readonly log: Logger;
    readonly signal: AbortSignal;
  }) {
    this.#store = options.store;
    this.#ref = options.ref;
    this.#patterns = options.patterns;
    this.#log = options.log;
    this.#signal = options.signal;
  }

  /** False where a publication has still to be made good. */
  get isUpToDate(): boolean {
    return this.#isUpToDate;
  }

  /** Of the patterns, for the notes of commits that are published by them; undefined where there are none. */
  get hash(): string | undefined {
    return this.#patterns.length === 0 ? undefined : hashId("publish", ...this.#patterns);
  }

  /**
   * Takes up where earlier activations ended.
   *
   * @param clean the last one released the session, so all that it committed is published
   */
  async begin(newest: Commit | undefined, clean: boolean): Promise<void> {
    const noted = readNote(newest)?.publishedBy;
    if (newest === undefined) return;
    if (clean && noted === this.hash) this.#published = newest;
    else if (noted !== undefined || this.hash !== undefined) {
      this.#isUpToDate = false;
      await this.#publish(newest);
    }
  }

  /** After a commit. A checkpoint is not published: what its turn comes to will be. */
  async bringUpTo(commit: Commit): Promise<void> {
    if (this.hash !== undefined) await this.#publish(commit);
  }

  async #publish(commit: Commit): Promise<void> {
    if (commit.partial) return;
    const from = this.#published;
    this.#published = undefined;
    this.#isUpToDate = false;
    try {
      const { put, deleted } = await this.#store.publishFiles(
        this.#ref,
        from,
        commit,
        this.#patterns,
        this.#signal,
      );
      this.#published = commit;
      this.#isUpToDate = true;
      if (put + deleted > 0)
        this.#log.info({ generation: commit.generation, put, deleted }, "files published");
    } catch (error) {
      this.#signal.throwIfAborted();
      this.#log.warn({ err: error, generation: commit.generation }, "files could not be published yet");
    }
  }
}
