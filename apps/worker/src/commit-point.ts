import {
  type Commit,
  type CommitMeta,
  type CommitResult,
  CommitUnsettledError,
  type Mirror,
  type SessionRef,
  type SessionStore,
  type WorkingCopy,
} from "@longshore/session-store";
import {
  type AcceptedMessage,
  type Clock,
  type CommitNote,
  endMessage,
  IDLE_SESSION_TTL_MS,
  type Logger,
  type Metrics,
  type PublishedReply,
  type ReplyWake,
  type SessionState,
  type WakeQueue,
} from "@longshore/shared";
import { type NextNote, nextNote, publishedReplies, readNote } from "./commit-notes.ts";
import { OvertakenError } from "./errors.ts";
import type { LeaseKeeper } from "./lease-keeper.ts";

/** Generations looked at for messages that Redis, restored from an older copy, believes to wait. */
const ADOPT_GENERATIONS = 20;
/** Replies that a commit carries on at most; delivery is out of order for a session that has more. */
const UNDELIVERED_MAX = 1_000;
/**
 * Age of a commit, in ms, at which Redis has forgotten a session because it was idle, and not because it lost
 * data: only a session of which nothing is left to publish is forgotten. A day off for clocks that differ.
 */
const FORGOTTEN_WHEN_IDLE_MS = IDLE_SESSION_TTL_MS - 24 * 3_600_000;

export interface CommitPointParts {
  readonly state: SessionState;
  readonly store: SessionStore;
  readonly replyWakes: WakeQueue<ReplyWake>;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly clock: Clock;
  readonly worker: string;
}

/**
 * An activation's one commit point, and what follows it.
 *
 * committing (one put-if-absent, I3) → publishing (one fenced script: replies to the outbox, messages out of
 * the mailbox, I5, I6) → done. A process that dies between the two leaves a commit that the next activation
 * adopts: publishes, before it does anything else. A put of which the store did not say whether it took place
 * makes it unsettled for good: it may become visible at any time, and the activation has to end.
 */
export class CommitPoint {
  readonly #parts: CommitPointParts;
  readonly #keeper: LeaseKeeper;
  readonly #ref: SessionRef;
  readonly #enter: (state: "committing" | "publishing") => void;
  #publishedGeneration: number;
  #isUnsettled = false;

  constructor(
    parts: CommitPointParts,
    options: {
      readonly keeper: LeaseKeeper;
      readonly ref: SessionRef;
      /** The newest generation that Redis knows to be published. */
      readonly publishedGeneration: number;
      readonly onState: (state: "committing" | "publishing") => void;
    },
  ) {
    this.#parts = parts;
    this.#keeper = options.keeper;
    this.#ref = options.ref;
    this.#publishedGeneration = options.publishedGeneration;
    this.#enter = options.onState;
  }

  /** True where a commit may stand that nobody has seen: the lease must not be released as clean. */
  get isUnsettled(): boolean {
    return this.#isUnsettled;
  }

  /** The newest generation that is published. */
  get publishedGeneration(): number {
    return this.#publishedGeneration;
  }

  /** Commits what a mirror found, and publishes it. */
  commit(copy: WorkingCopy, mirror: Mirror, kind: CommitMeta["kind"], next: NextNote): Promise<Commit> {
    return this.#put(copy.base, kind, next, (meta) => copy.commit(mirror, meta, this.#keeper.signal));
  }

  /** Commits a generation with the files of the one before: a takeover record, a dead letter. */
  commitUnchanged(base: Commit | undefined, kind: CommitMeta["kind"], next: NextNote): Promise<Commit> {
    return this.#put(base, kind, next, (meta) =>
      this.#parts.store.commitUnchanged(this.#ref, base, meta, this.#keeper.signal),
    );
  }

  /**
   * Finishes what earlier activations committed: their replies are published, their messages acknowledged.
   * Where Redis came back with older data that may be several generations; what of their replies was not
   * delivered is carried by the newest.
   *
   * @param options.forgotten Redis knows nothing of the session. Where that is so because it was idle for long,
   *   its replies were delivered long ago, and are not sent again. @default false
   */
  async adopt(newest: Commit | undefined, { forgotten = false } = {}): Promise<void> {
    if (newest === undefined) return;
    const { store, log, clock } = this.#parts;
    if (newest.epoch >= this.#keeper.lease.epoch) await this.#keeper.raiseEpoch(newest.epoch + 1);
    const first = Math.max(this.#publishedGeneration + 1, newest.generation - ADOPT_GENERATIONS + 1);
    for (let generation = first; generation <= newest.generation; generation++) {
      const isNewest = generation === newest.generation;
      const commit = isNewest
        ? newest
        : await store.readCommit(this.#ref, generation, this.#keeper.signal).catch((error: unknown) => {
            // Retention may have removed it; a store out of reach fails the newest too.
            log.warn({ err: error, generation }, "an unpublished generation can't be read");
            return undefined;
          });
      const note = readNote(commit);
      if (commit === undefined || note === undefined) continue;
      const wasIdle = forgotten && clock.now() - Date.parse(newest.time) > FORGOTTEN_WHEN_IDLE_MS;
      const withReplies = isNewest && !wasIdle;
      log.info({ generation, withReplies }, "publishing what an earlier activation committed");
      await this.#publish(
        commit,
        withReplies ? note : { ...note, undelivered: [] },
        withReplies ? publishedReplies(commit, note, this.#ref) : [],
      );
    }
    this.#publishedGeneration = Math.max(this.#publishedGeneration, newest.generation);
  }

  /** The head of the mailbox that no commit has ended yet; undefined where nothing waits. */
  async nextMessage(newest: Commit | undefined): Promise<AcceptedMessage | undefined> {
    const { state } = this.#parts;
    const recent = new Set(readNote(newest)?.recent);
    for (;;) {
      const [message] = await state.readMailbox(this.#ref.sessionId, 1);
      if (message === undefined || newest === undefined || !recent.has(message.id)) return message;
      // Redis forgot that it was answered and took it again: acknowledged without another turn.
      await state.publish(this.#ref.sessionId, this.#keeper.lease, {
        generation: newest.generation,
        replies: [],
        ends: [endMessage(message, "answered")],
      });
    }
  }

  /**
   * Throws `OvertakenError` where a generation of a lower epoch stands (to be adopted), `FencedError` where
   * one of a higher does.
   */
  async #put(
    base: Commit | undefined,
    kind: CommitMeta["kind"],
    next: NextNote,
    put: (meta: CommitMeta) => Promise<CommitResult>,
  ): Promise<Commit> {
    const { state, worker } = this.#parts;
    this.#enter("committing");
    const undelivered = await state.readOutbox(this.#ref.sessionId, UNDELIVERED_MAX);
    const note = nextNote(readNote(base), { ...next, undelivered });
    const { epoch, nonce } = this.#keeper.lease;
    this.#keeper.assertHeld();
    const result = await put({ epoch, nonce, worker, kind, note }).catch((error: unknown) => {
      if (error instanceof CommitUnsettledError) this.#isUnsettled = true;
      throw error;
    });
    if (result.outcome === "overtaken") {
      const { generation, epoch: other } = result.commit;
      if (other < epoch) throw new OvertakenError(generation);
      this.#keeper.lose(`generation ${generation} has epoch ${other}`);
      this.#keeper.signal.throwIfAborted();
    }
    this.#enter("publishing");
    await this.#publish(result.commit, note, publishedReplies(result.commit, note, this.#ref));
    return result.commit;
  }

  async #publish(commit: Commit, note: CommitNote, replies: readonly PublishedReply[]): Promise<void> {
    const { state, metrics, replyWakes, log } = this.#parts;
    const { tenant, sessionId } = this.#ref;
    await state.publish(sessionId, this.#keeper.lease, {
      generation: commit.generation,
      replies: [...note.undelivered, ...replies],
      ends: note.ends,
    });
    this.#publishedGeneration = Math.max(this.#publishedGeneration, commit.generation);
    for (const { outcome, error } of note.ends) {
      metrics.messages.inc({ tenant, agent: note.agent, outcome });
      if (outcome === "dead") metrics.deadLetters.inc({ reason: error?.code ?? "UNKNOWN" });
    }
    const conversations = new Map(
      [...note.undelivered, ...replies].map(({ channel, conversation, thread }) => [
        JSON.stringify([channel, conversation, thread]),
        { sessionId, channel, conversation, ...(thread === undefined ? {} : { thread }) },
      ]),
    );
    for (const wake of conversations.values()) {
      // A wake is only a hint: the sweeper finds an outbox that nobody drains.
      await replyWakes.wake(wake).catch((error: unknown) => log.warn({ err: error }, "no wake for delivery"));
    }
  }
}
