import {
  type Commit,
  type CommitKind,
  type CommitMeta,
  type CommitResult,
  CommitUnsettledError,
  type FileChanges,
  GenerationNotFoundError,
  type Mirror,
  type SessionRef,
  type SessionStore,
  type WorkingCopy,
} from "@longshore/session-store";
import {
  type AcceptedMessage,
  type AskedQuestion,
  type Clock,
  type CommitNote,
  endMessage,
  IDLE_SESSION_TTL_MS,
  type Logger,
  type MessageEnd,
  type Metrics,
  type NextMessages,
  type PublishedReply,
  type ReplyWake,
  type SessionState,
  type WakeQueue,
} from "@longshore/shared";
import { type NextNote, nextNote, publishedReplies, readNote, rememberNote } from "./commit-notes.ts";
import { OvertakenError } from "./errors.ts";
import type { LeaseKeeper } from "./lease-keeper.ts";
import type { PublishedFiles } from "./published-files.ts";
import type { RunningSession } from "./running-session.ts";

/** Generations looked at for messages that Redis, restored from an older copy, believes to wait. */
const ADOPT_GENERATIONS = 20;
/** Generations looked at, and read together, for how a message ended that Redis took again. */
const END_GENERATIONS = 400;
const END_PAGE = 20;
/**
 * Replies that a commit carries on at most, and their bytes. Those of a session that has more are delivered out of order, and
 * are lost with a Redis that loses them.
 */
const UNDELIVERED_MAX = 1_000;
const UNDELIVERED_BYTES_MAX = 16 * 1024 ** 2;
/**
 * Age of a commit, in ms, at which Redis has forgotten a session because it was idle, and not because it lost
 * data: only a session of which nothing is left to publish is forgotten. A day off for clocks that differ.
 */
const FORGOTTEN_WHEN_IDLE_MS = IDLE_SESSION_TTL_MS - 24 * 3_600_000;

/** What a commit takes of a session with a sandbox. */
type CommittedSession = Pick<RunningSession, "copy" | "volumes" | "definition">;

/** The replies that a commit carries on, oldest first: those that Redis has, and that are not delivered yet. */
export async function readUndelivered(
  state: Pick<SessionState, "readOutbox">,
  sessionId: string,
): Promise<PublishedReply[]> {
  const replies = await state.readOutbox(sessionId, UNDELIVERED_MAX);
  let bytes = 0;
  for (const [at, reply] of replies.entries()) {
    bytes += Buffer.byteLength(JSON.stringify(reply));
    if (bytes > UNDELIVERED_BYTES_MAX) return replies.slice(0, at);
  }
  return replies;
}

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
  readonly #publishedFiles: PublishedFiles;
  readonly #enter: (state: "committing" | "publishing", kind: CommitKind) => void;
  #publishedGeneration: number;
  #isUnsettled = false;
  #hasCommitted = false;
  /**
   * What waits, where that is known without asking. A head that was seen under the lease stays the head until it is
   * published here; that nothing waits is only good for the next to ask, who looks again before the lease is released.
   */
  #waiting: NextMessages | undefined;

  constructor(
    parts: CommitPointParts,
    options: {
      readonly keeper: LeaseKeeper;
      readonly ref: SessionRef;
      /** The newest generation that Redis knows to be published. */
      readonly publishedGeneration: number;
      readonly publishedFiles: PublishedFiles;
      /** As it was read under the lease. */
      readonly waiting: NextMessages;
      readonly onState: (state: "committing" | "publishing", kind: CommitKind) => void;
    },
  ) {
    this.#parts = parts;
    this.#keeper = options.keeper;
    this.#ref = options.ref;
    this.#publishedGeneration = options.publishedGeneration;
    this.#publishedFiles = options.publishedFiles;
    this.#waiting = options.waiting;
    this.#enter = options.onState;
  }

  /**
   * False where the next activation has something to find out: a commit may stand that nobody has seen, or files
   * that it should have published are not. The lease must not be released as clean then.
   */
  get isClean(): boolean {
    return !this.#isUnsettled && this.#publishedFiles.isUpToDate;
  }

  /** True where a commit may still become visible. */
  get isUnsettled(): boolean {
    return this.#isUnsettled;
  }

  /** True once a generation of this activation stands. */
  get hasCommitted(): boolean {
    return this.#hasCommitted;
  }

  /** The newest generation that is published. */
  get publishedGeneration(): number {
    return this.#publishedGeneration;
  }

  /** Commits what a turn changed, in the session and in its volumes, and publishes it. */
  async commit(running: CommittedSession, mirror: Mirror, next: NextNote): Promise<Commit> {
    return await this.#commitWith(running, mirror, "turn", await this.#prepare(running, next));
  }

  /** Commits what changed since the last turn, if anything did. */
  async commitRest(running: CommittedSession, mirror: Mirror, next: NextNote): Promise<void> {
    const prepared = await this.#prepare(running, next);
    if (mirror.isEmpty && prepared.volumes === undefined) return;
    await this.#commitWith(running, mirror, "linger", prepared);
  }

  /** Commits what a mirror found inside a turn: ends nothing, and is undone if the turn does not get to its end. */
  checkpoint(
    copy: WorkingCopy,
    mirror: Mirror,
    next: NextNote & { readonly wholeGeneration: number },
  ): Promise<Commit> {
    const how = { kind: "checkpoint", partial: true } as const;
    return this.#put(copy.base, how, next, (meta) => copy.commit(mirror, meta, this.#keeper.signal));
  }

  /**
   * Commits a generation with the files of the last whole one: a takeover record, a dead letter. Where the base is a
   * checkpoint, its turn is undone by it, and the agent continues the session of its own that it had before.
   */
  async commitWhole(base: Commit | undefined, kind: CommitKind, next: NextNote): Promise<Commit> {
    const { store, log } = this.#parts;
    const { signal } = this.#keeper;
    const unchanged = () =>
      this.#put(base, { kind }, next, (meta) => store.commitUnchanged(this.#ref, base, meta, signal));
    if (base?.partial !== true) return unchanged();
    const { wholeGeneration = 0 } = readNote(base) ?? {};
    try {
      const whole =
        wholeGeneration === 0 ? undefined : await store.readCommit(this.#ref, wholeGeneration, signal);
      log.info({ generation: base.generation, wholeGeneration }, "undoing the checkpoints of a turn");
      return await this.#rollBack(base, whole, kind, next);
    } catch (error) {
      if (!(error instanceof GenerationNotFoundError)) throw error;
      log.error({ err: error }, "what a turn began from is gone: it will be tried again from its checkpoint");
      return unchanged();
    }
  }

  /** Commits a generation with the files of an earlier one, and the agent's own session of that time. */
  rollBack(base: Commit, to: Commit, next: NextNote): Promise<Commit> {
    return this.#rollBack(base, to, "rollback", next);
  }

  /** Commits changes of files: through the working copy, which gets them too, or without one. */
  commitFiles(
    at: { readonly copy: WorkingCopy } | { readonly base: Commit | undefined },
    changes: FileChanges,
    next: NextNote,
    signal: AbortSignal,
  ): Promise<Commit> {
    const base = "copy" in at ? at.copy.base : at.base;
    return this.#put(base, { kind: "upload" }, next, (meta) =>
      "copy" in at
        ? at.copy.commitFiles(changes, meta, signal)
        : this.#parts.store.commitFiles(this.#ref, base, changes, meta, signal),
    );
  }

  /** Ends a message in a live working copy, whose files stay as they are. */
  commitUnchanged(copy: WorkingCopy, kind: CommitKind, next: NextNote): Promise<Commit> {
    return this.#put(copy.base, { kind }, next, (meta) =>
      copy.commit("unchanged", meta, this.#keeper.signal),
    );
  }

  /**
   * Ends messages as cancelled, with the files as they are.
   *
   * @returns undefined where none of them waits (any more)
   */
  async cancel(
    base: Commit | undefined,
    messageIds: readonly string[],
    agentName: string,
  ): Promise<Commit | undefined> {
    const recent = new Set(readNote(base)?.recent);
    const waiting = await this.#parts.state.readMailbox(this.#ref.sessionId, messageIds.length);
    const ends = waiting
      .filter(({ id }) => messageIds.includes(id) && !recent.has(id))
      .map((message) => endMessage(message, "cancelled"));
    if (ends.length === 0) return undefined;
    this.#parts.log.info({ messageIds: ends.map(({ message }) => message.id) }, "cancelled before a retry");
    return await this.commitWhole(base, "turn", { agent: agentName, ends });
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
    const { epoch, nonce } = this.#keeper.lease;
    // Its own has its own epoch: it begins again under the same lease.
    if (newest.nonce !== nonce && newest.epoch >= epoch) await this.#keeper.raiseEpoch(newest.epoch + 1);
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
    return (await this.nextMessages(newest, 1)).waking[0]?.message;
  }

  /** The head of the mailbox that no commit has ended yet, at most `limit` messages; and how many only add context. */
  async nextMessages(newest: Commit | undefined, limit: number): Promise<NextMessages> {
    const recent = new Set(readNote(newest)?.recent);
    for (;;) {
      const next = await this.#readWaiting(limit);
      const message = next.waking[0]?.message;
      if (message === undefined || newest === undefined || !recent.has(message.id)) {
        const again = next.waking.findIndex((waiting) => recent.has(waiting.message.id));
        return again < 0 ? next : { ...next, waking: next.waking.slice(0, again) };
      }
      if (await this.#publishAgain(newest)) continue;
      // Redis forgot that it has ended and took it again: acknowledged without another turn.
      await this.#publishInRedis({ replies: [], ...(await this.#findEnd(message, newest)) });
    }
  }

  /**
   * Tells a Redis that came back with older data, while the activation went on, what it was told before: nobody else would,
   * once it is told of a later generation. The newest commit carries what the ones before it still had to deliver.
   *
   * @returns false where it knows all that it was told
   */
  async #publishAgain(newest: Commit): Promise<boolean> {
    const known = await this.#parts.state.readPublishedGeneration(this.#ref.sessionId);
    if (known >= this.#publishedGeneration) return false;
    this.#parts.log.warn({ known, published: this.#publishedGeneration }, "Redis came back with older data");
    this.#publishedGeneration = known;
    await this.adopt(newest);
    return true;
  }

  /** How a commit says that a message ended; where that commit is gone, that it was answered. */
  async #findEnd(
    message: AcceptedMessage,
    { generation: newest }: Commit,
  ): Promise<{ readonly generation: number; readonly ends: readonly MessageEnd[] }> {
    for (let before = newest + 1; before > Math.max(newest - END_GENERATIONS, 1); before -= END_PAGE) {
      const page = { before, limit: END_PAGE };
      for (const commit of await this.#parts.store.listCommits(this.#ref, page, this.#keeper.signal)) {
        const end = readNote(commit)?.ends.find((ended) => ended.message.id === message.id);
        if (end !== undefined) return { generation: commit.generation, ends: [end] };
      }
    }
    return { generation: newest, ends: [endMessage(message, "answered")] };
  }

  /** Whether a message waits, as Redis has it now. */
  async hasWaiting(): Promise<boolean> {
    this.#waiting = undefined;
    return (await this.#readWaiting(1)).waking.length > 0;
  }

  async #readWaiting(limit: number): Promise<NextMessages> {
    const known = this.#waiting;
    if (known?.waking.length === 0) {
      this.#waiting = undefined;
      return known;
    }
    if (known !== undefined && limit === 1) return known;
    const { waking, context } = await this.#parts.state.readWaiting(this.#ref.sessionId, limit);
    this.#waiting = waking.length === 0 ? undefined : { waking: waking.slice(0, 1), context };
    return { waking, context };
  }

  async #publishInRedis(commit: Parameters<SessionState["publish"]>[2]): Promise<void> {
    this.#waiting = undefined;
    const waiting = await this.#parts.state.publish(this.#ref.sessionId, this.#keeper.lease, commit);
    if (waiting === 0) this.#waiting = { waking: [], context: 0 };
  }

  /**
   * Throws `OvertakenError` where a generation of a lower epoch stands (to be adopted), `FencedError` where
   * one of a higher does.
   */
  async #put(
    base: Commit | undefined,
    how: Pick<CommitMeta, "kind" | "partial">,
    next: NextNote,
    put: (meta: CommitMeta) => Promise<CommitResult>,
  ): Promise<Commit> {
    const { state, worker } = this.#parts;
    this.#enter("committing", how.kind);
    let undelivered = await readUndelivered(state, this.#ref.sessionId);
    // Only now, so that what was read is not older than what this knows of.
    if (base !== undefined && (await this.#publishAgain(base)))
      undelivered = await readUndelivered(state, this.#ref.sessionId);
    const publishedBy = this.#publishedFiles.hash;
    const generation = (base?.generation ?? 0) + 1;
    const note = nextNote(readNote(base), { ...next, undelivered, publishedBy, generation });
    const { epoch, nonce } = this.#keeper.lease;
    this.#keeper.assertHeld();
    const result = await put({ epoch, nonce, worker, ...how, note }).catch((error: unknown) => {
      if (error instanceof CommitUnsettledError) this.#isUnsettled = true;
      throw error;
    });
    if (result.outcome === "overtaken") {
      const { epoch: other } = result.commit;
      if (other < epoch) throw new OvertakenError(result.commit.generation);
      this.#keeper.lose(`generation ${result.commit.generation} has epoch ${other}`);
      this.#keeper.signal.throwIfAborted();
    }
    rememberNote(result.commit, note);
    this.#hasCommitted = true;
    this.#enter("publishing", how.kind);
    await this.#publish(result.commit, note, publishedReplies(result.commit, note, this.#ref), next.asks);
    await this.#publishedFiles.bringUpTo(result.commit);
    return result.commit;
  }

  async #prepare({ copy, volumes, definition }: CommittedSession, next: NextNote): Promise<NextNote> {
    return { ...next, volumes: await volumes.prepare(definition, readNote(copy.base)?.volumes) };
  }

  async #commitWith(
    { copy, volumes }: CommittedSession,
    mirror: Mirror,
    kind: CommitKind,
    next: NextNote,
  ): Promise<Commit> {
    const commit = await this.#put(copy.base, { kind }, next, (meta) =>
      copy.commit(mirror, meta, this.#keeper.signal),
    );
    await volumes.settle();
    return commit;
  }

  #rollBack(base: Commit, to: Commit | undefined, kind: CommitKind, next: NextNote): Promise<Commit> {
    const withSession = { ...next, agentSessionId: readNote(to)?.agentSessionId };
    return this.#put(base, { kind }, withSession, (meta) =>
      this.#parts.store.rollback(this.#ref, base, to, meta, this.#keeper.signal),
    );
  }

  async #publish(
    commit: Commit,
    note: CommitNote,
    replies: readonly PublishedReply[],
    asks?: AskedQuestion,
  ): Promise<void> {
    const { metrics, replyWakes, log } = this.#parts;
    const { tenant, sessionId } = this.#ref;
    await this.#publishInRedis({
      generation: commit.generation,
      replies: [...note.undelivered, ...replies],
      ends: note.ends,
      contextDropped: note.contextDropped,
      asks,
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
