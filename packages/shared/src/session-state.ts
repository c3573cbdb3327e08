import type { Cluster, Redis } from "ioredis";
import type { MessageEnd, PublishedReply } from "./commit-note.ts";
import { DeadLetters, deadReplyId, summarizeDeadMessage, summarizeDeadReply } from "./dead-letters.ts";
import { EndedRecords } from "./ended-records.ts";
import { LongshoreError } from "./errors.ts";
import { GatheredCalls, GatheredCallsByKey } from "./gathered-calls.ts";
import { eventsChannel, messageKey, pendingKey, sessionKeys, workerChannel } from "./keys.ts";
import { type AcceptedMessage, acceptedMessageSchema, type MessageState, messageStates } from "./message.ts";
import { MailboxFullError, SessionBusyError } from "./message-errors.ts";
import { Script } from "./script.ts";
import type { SessionEvent } from "./session-event.ts";
import { hashId } from "./session-id.ts";

const scripts = {
  indexPending: new Script("index-pending"),
  forgetPending: new Script("forget-pending"),
  accept: new Script("accept"),
  acceptContext: new Script("accept-context"),
  takeLease: new Script("take-lease"),
  raiseEpoch: new Script("raise-epoch"),
  renewLease: new Script("renew-lease"),
  releaseLease: new Script("release-lease"),
  startTurn: new Script("start-turn"),
  countDeaths: new Script("count-deaths"),
  failTurn: new Script("fail-turn"),
  cancelTurn: new Script("cancel-turn"),
  publish: new Script("publish"),
  startDelivery: new Script("start-delivery"),
  recordRefusal: new Script("record-refusal"),
  markDelivered: new Script("mark-delivered"),
  buryReply: new Script("bury-reply"),
  reviveReply: new Script("revive-reply"),
  addEvents: new Script("add-events"),
} as const;

/**
 * How long after its index entry a message may be appended, in ms. The entry is safe from the sweeper for so
 * long, and accepting makes a new one where it took longer (I2).
 */
export const ACCEPT_WINDOW_MS = 30_000;
/** Sessions that are put into the pending index together at most. */
const INDEXED_TOGETHER = 1_000;
/** Messages of a session that are accepted together at most: each may be a mebibyte, and Redis serves nobody meanwhile. */
const ACCEPTED_TOGETHER = 16;
/** An accept that was stopped for longer than its window that often gives up. */
const ACCEPT_ATTEMPTS = 3;
/** What a message ends with that fell out of the context. */
export const CONTEXT_DROPPED = {
  code: "CONTEXT_DROPPED",
  message: "More came after it than the context holds, or no turn came in time",
} as const;
/** Dead replies that a session keeps, and for how long. */
const DEAD_REPLIES_KEPT = 1_000;
const DEAD_REPLIES_TTL_MS = 30 * 24 * 3_600_000;
/** Deliveries that a session remembers, so that a reply carried in a commit is not delivered again. */
const DELIVERIES_REMEMBERED = 1_000;
/** How long Redis keeps the epoch and numbers of an idle session; the newest commit knows better anyway. */
export const IDLE_SESSION_TTL_MS = 30 * 24 * 3_600_000;
/** Replies that one generation may have: their places in the order are `generation * this + index`. */
export const REPLIES_PER_GENERATION = 1_000;

/** The activation lost its session: it may not publish, acknowledge or commit any more (I5). */
export class FencedError extends LongshoreError {
  /** What said so. */
  readonly operation: string;

  constructor(operation: string) {
    super("FENCED", `The session's lease is not held any more (${operation})`);
    this.operation = operation;
  }
}

/** The turn that these messages are in was cancelled: they end so, without being prompted (again). */
export class TurnCancelledError extends LongshoreError {
  readonly messageIds: readonly string[];
  constructor(messageIds: readonly string[]) {
    super("TURN_CANCELLED", "The turn was cancelled");
    this.messageIds = messageIds;
  }
}

/** There is no such turn to cancel: it has ended, or another one was meant. */
export class TurnNotRunningError extends LongshoreError {
  constructor(turnId: string | undefined) {
    super(
      "TURN_NOT_RUNNING",
      turnId === undefined
        ? "No turn of this session runs or waits for its retry"
        : "This turn does not run (any more), nor wait for its retry",
    );
  }
}

/** Accepting took longer than its window several times over: the process or Redis hardly runs. */
export class AcceptTooSlowError extends LongshoreError {
  constructor() {
    super("ACCEPT_TOO_SLOW", "The message could not be accepted in time", { retryable: true });
  }
}

/** A reply that could not be delivered. */
export interface DeadReply {
  readonly reply: PublishedReply;
  readonly error: { readonly code: string; readonly message: string };
  readonly attempts: number;
  /** Milliseconds since the epoch. */
  readonly diedAt: number;
}

export interface StartedDelivery {
  /** False: what became of the last call is not known, and it may not be made again. */
  readonly started: boolean;
  /** Calls so far, one that was started now included. */
  readonly attempts: number;
  /** How long ago the first of them was, in ms. */
  readonly sinceFirstMs: number;
}

/**
 * What a turn asks: the next message of one of those who sent `askedOf`, from the same place, is the answer. It is accepted whatever
 * its `AtWork` says, ends no turn, and waits in the mailbox for the turn to take it (`readAnswer`). One at a time.
 */
export interface AskedQuestion {
  /** The same for the same question in another attempt at the turn. */
  readonly id: string;
  readonly turnId: string;
  readonly text: string;
  readonly options: readonly string[];
  readonly askedOf: readonly AcceptedMessage[];
  readonly waitMs: number;
}

/** What an activation holds; both parts are checked by every fence. */
export interface Lease {
  readonly nonce: string;
  readonly epoch: number;
}

export interface TakenLease extends Lease {
  /** `unclean`: the last holder did not release it; `unknown`: Redis knows of none. */
  readonly before: "clean" | "unclean" | "unknown";
  /** The newest generation whose replies were published; 0 where Redis knows of none. */
  readonly publishedGeneration: number;
  /** A turn that was started and has not ended: it failed and is tried again, or its worker died. */
  readonly left: LeftTurn | undefined;
  /** Of activations that had the head of the mailbox before them, and had not come to start its turn. */
  readonly opened: Deaths;
  /** The head of the mailbox, and how much context waits. */
  readonly waiting: NextMessages;
}

/** What a message has to do with the death of workers. */
export interface Deaths {
  /** How often it was at work on one that died, among others: it may have been any of them. */
  readonly suspects: number;
  /** How often it was alone on one that died, and how often its turn failed otherwise. */
  readonly attempts: number;
}

/** What becomes of a turn that is not to finish; see the event `turn.cancelling`. */
export type CancelMode = "cancel" | "rollback";

export interface LeftTurn {
  readonly messageIds: readonly string[];
  readonly mark: CancelMode | undefined;
}

/** The turn that a cancellation meant. */
export interface CancelledTurn {
  readonly turnId: string;
  /** Its messages; none where it had ended by an earlier cancellation. */
  readonly messageIds: readonly string[];
  /** An activation of the session is alive and was told; no wake is needed. */
  readonly leased: boolean;
}

export type TakeResult =
  | { readonly taken: true; readonly lease: TakenLease }
  /** `leased`: another activation holds it for so long at least; `waiting`: a retry is due then. */
  | { readonly taken: false; readonly reason: "leased" | "waiting"; readonly forMs: number };

export interface AcceptResult {
  readonly seq: number;
  readonly duplicate: boolean;
  readonly state: MessageState;
  /** An activation of the session is alive and was told; no wake is needed. */
  readonly leased: boolean;
  /** A turn is to end for it: one whose retry waits is due now. */
  readonly marked: boolean;
}

/** What a new message does to a session that is at work; with anything else it waits. */
export type AtWork = "interrupt" | "rollback" | "reject" | "wait";

/** A message that waits, and its number. */
export interface WaitingMessage {
  readonly seq: number;
  readonly message: AcceptedMessage;
}

/** What waits for the next turn. */
export interface NextMessages {
  /** Messages that wake, oldest first. */
  readonly waking: readonly WaitingMessage[];
  /** How many wait besides that only add context. */
  readonly context: number;
}

/** What the next turn begins with besides the messages that wake. */
export interface WaitingContext {
  readonly messages: readonly WaitingMessage[];
  /** Messages that were dropped since the last commit. */
  readonly dropped: number;
}

export interface MessageRecord {
  readonly seq: number;
  readonly state: MessageState;
  readonly acceptedAt: number;
  readonly attempts: number;
  readonly suspects: number;
  /** How often its turn failed through no fault of its own, and had to wait. */
  readonly troubles: number;
  readonly endedAt?: number;
  readonly generation?: number;
  readonly error?: { readonly code: string; readonly message: string };
}

export interface SessionStateOptions {
  /** How long the record of an ended message is kept, in ms: so long its id is known as a duplicate. */
  readonly recordTtlMs: number;
  /** Events kept per session, about. */
  readonly eventsLength: number;
  /** How long events are kept after the last one, in ms. */
  readonly eventsTtlMs: number;
}

/** What is asked for by `accept`, and what its script answers. */
interface Accepting {
  readonly message: AcceptedMessage;
  readonly bound: number;
  readonly atWork: AtWork;
  /** When its index entry was made, where that was asked for ahead. */
  readonly ahead: Promise<number> | undefined;
}

interface AcceptAnswer {
  readonly leased: boolean;
  readonly code: number;
  readonly first: string | number | undefined;
  readonly last: string | number | undefined;
}

type Code = readonly [code: number, ...rest: (string | number)[]];

/**
 * A session's state in Redis: mailbox, message records, lease, outbox, events. Each method is one script,
 * atomic on one session; the fenced ones throw `FencedError` where the lease is not held any more.
 */
export class SessionState {
  readonly #redis: Redis | Cluster;
  readonly #options: SessionStateOptions;
  readonly #deadLetters: DeadLetters;
  readonly #endedRecords: EndedRecords;
  readonly #indexing = new GatheredCalls<string, number>(
    (sessionIds) => this.#indexPending(sessionIds),
    INDEXED_TOGETHER,
  );
  readonly #accepting = new GatheredCallsByKey<Accepting, AcceptAnswer>(
    (sessionId, items) => this.#acceptAll(sessionId, items),
    ACCEPTED_TOGETHER,
  );

  constructor(redis: Redis | Cluster, options: SessionStateOptions) {
    this.#redis = redis;
    this.#deadLetters = new DeadLetters(redis);
    this.#endedRecords = new EndedRecords(redis, options.recordTtlMs);
    this.#options = options;
  }

  /** Puts a session into the pending index; gives the time of its entry. Where no message follows, the sweeper takes it out. */
  async index(sessionId: string): Promise<number> {
    return await this.#indexing.add(sessionId);
  }

  /** Puts sessions into the pending index: one call for each of its shards. Gives the time of each one's entry. */
  async #indexPending(sessionIds: readonly string[]): Promise<number[]> {
    const shards = Map.groupBy(sessionIds, pendingKey);
    const times = new Map<string, number>();
    await Promise.all(
      Array.from(shards, async ([shard, members]) => {
        const indexedAt = Number(await scripts.indexPending.run(this.#redis, [shard], [...new Set(members)]));
        for (const member of members) times.set(member, indexedAt);
      }),
    );
    return sessionIds.map((sessionId) => times.get(sessionId) as number);
  }

  #eventArguments(sessionId: string): [string, number, number] {
    return [eventsChannel(sessionId), this.#options.eventsLength, this.#options.eventsTtlMs];
  }

  /**
   * Accepts a message (I1, I2): the index entry first, so that the sweeper finds the session whatever dies
   * after it, then idempotency, bound and append in one step.
   *
   * @param indexed of `index`, where that was asked for ahead
   * @throws MailboxFullError; SessionBusyError
   */
  async accept(
    message: AcceptedMessage,
    bound: number,
    atWork: AtWork = "wait",
    indexed?: Promise<number>,
  ): Promise<AcceptResult> {
    for (let attempt = 0; attempt < ACCEPT_ATTEMPTS; attempt++) {
      const ahead = attempt === 0 ? indexed : undefined;
      const answer = await this.#accepting.add(message.sessionId, { message, bound, atWork, ahead });
      const { code, first, last, leased } = answer;
      if (code === -1) throw new MailboxFullError(Number(first));
      if (code === -3) throw new SessionBusyError();
      if (code === -2) continue;
      return {
        seq: Number(first),
        duplicate: code === 0,
        state: code === 0 ? readState(last) : "accepted",
        leased,
        marked: code === 1 && last === 1,
      };
    }
    throw new AcceptTooSlowError();
  }

  /** Messages of one session that come at the same time, in one call. */
  async #acceptAll(sessionId: string, items: readonly Accepting[]): Promise<AcceptAnswer[]> {
    const keys = sessionKeys(sessionId);
    const [{ message: first, ahead }] = items as readonly [Accepting];
    const indexedAt = await (ahead ?? this.index(sessionId));
    const [leased, ...answers] = (await scripts.accept.run(
      this.#redis,
      [
        ...[keys.mailbox, keys.session, keys.lease, keys.events],
        ...items.map(({ message }) => messageKey(message.id)),
      ],
      [
        sessionId,
        first.tenant,
        first.agent,
        ...this.#eventArguments(sessionId),
        workerChannel(""),
        indexedAt,
        ACCEPT_WINDOW_MS,
        ...items.flatMap(({ message, bound, atWork }) => [
          message.id,
          JSON.stringify(message),
          bound,
          atWork,
          message.operation === undefined ? speakerOf(message) : "",
        ]),
      ],
    )) as Code;
    return items.map((_, index) => ({
      leased: leased === 1,
      code: Number(answers[3 * index]),
      first: answers[3 * index + 1],
      last: answers[3 * index + 2],
    }));
  }

  /**
   * Accepts a message that only adds context to the next turn: it wakes nobody. Beyond the bounds the oldest are dropped.
   *
   * @param bound.messages how many may wait
   * @param bound.keepMs for how long
   */
  async acceptContext(
    message: AcceptedMessage,
    bound: { readonly messages: number; readonly keepMs: number },
  ): Promise<Omit<AcceptResult, "leased" | "marked">> {
    const { sessionId } = message;
    const keys = sessionKeys(sessionId);
    let dropped: readonly (string | number)[] = [];
    for (let attempt = 0; attempt < ACCEPT_ATTEMPTS; attempt++) {
      const [code, ...rest] = (await scripts.acceptContext.run(
        this.#redis,
        [
          ...[keys.context, messageKey(message.id), keys.session, keys.events],
          ...dropped.filter((_, index) => index % 2 === 1).map((id) => messageKey(String(id))),
        ],
        [
          message.id,
          JSON.stringify(message),
          message.tenant,
          message.agent,
          bound.messages,
          bound.keepMs,
          ...this.#eventArguments(sessionId),
          this.#options.recordTtlMs,
          IDLE_SESSION_TTL_MS,
          JSON.stringify(CONTEXT_DROPPED),
          ...dropped.filter((_, index) => index % 2 === 0),
        ],
      )) as Code;
      if (code >= 0) {
        const duplicate = code === 0;
        return { seq: Number(rest[0]), duplicate, state: duplicate ? readState(rest[1]) : "accepted" };
      }
      dropped = rest;
    }
    throw new AcceptTooSlowError();
  }

  /** The messages that wait and wake, oldest first, at most `limit`; and how many wait besides that only add context. */
  async readWaiting(sessionId: string, limit: number): Promise<NextMessages> {
    const keys = sessionKeys(sessionId);
    const results = await this.#redis
      .pipeline()
      .xrange(keys.mailbox, "-", "+", "COUNT", limit)
      .xlen(keys.context)
      .exec();
    const value = (index: number): unknown => {
      const [error, result] = results?.[index] ?? [new Error("no answer from Redis")];
      if (error) throw error;
      return result;
    };
    return { waking: (value(0) as Entry[]).map(readEntry), context: value(1) as number };
  }

  /** For each message whether it has to be the only one of its turn: it failed, or may have, or so did a turn with it. */
  async readSingles(messageIds: readonly string[]): Promise<boolean[]> {
    const pipeline = this.#redis.pipeline();
    for (const id of messageIds) pipeline.hmget(messageKey(id), "attempts", "suspects", "single");
    const results = (await pipeline.exec()) ?? [];
    return results.map(([error, counts]) => {
      if (error) throw error;
      return (counts as (string | null)[]).some((count) => Number(count ?? 0) > 0);
    });
  }

  /** The messages before `seq` that only add context, oldest first. */
  async readContext(sessionId: string, seq: number): Promise<WaitingContext> {
    const keys = sessionKeys(sessionId);
    const [entries, dropped] = await Promise.all([
      this.#redis.xrange(keys.context, "-", `(${seq}-0`),
      this.#redis.hget(keys.session, "contextDropped"),
    ]);
    return { messages: entries.map(readEntry), dropped: Number(dropped ?? 0) };
  }

  /** The messages that wait, oldest first, at most `limit`. */
  async readMailbox(sessionId: string, limit: number): Promise<AcceptedMessage[]> {
    const entries = await this.#redis.xrange(sessionKeys(sessionId).mailbox, "-", "+", "COUNT", limit);
    return entries.map(([, fields]) => acceptedMessageSchema.parse(JSON.parse(fields[1] as string)));
  }

  /** @param isAlone whether nothing else is on the worker, so that its death is the message's fault. @default false */
  async takeLease(
    sessionId: string,
    nonce: string,
    worker: string,
    ttlMs: number,
    isAlone = false,
  ): Promise<TakeResult> {
    const keys = sessionKeys(sessionId);
    const [code, first, before, generation, left, mark, suspects, attempts, ...waiting] =
      (await scripts.takeLease.run(
        this.#redis,
        [keys.lease, keys.session, keys.mailbox, keys.context],
        [nonce, worker, ttlMs, isAlone ? 1 : 0],
      )) as [...Code, Entry[], number];
    const [head = [], context = 0] = waiting as [Entry[]?, number?];
    if (code !== 1) return { taken: false, reason: code === 0 ? "leased" : "waiting", forMs: Number(first) };
    return {
      taken: true,
      lease: {
        nonce,
        epoch: Number(first),
        before: before as TakenLease["before"],
        publishedGeneration: Number(generation),
        left:
          left === ""
            ? undefined
            : { messageIds: words(left), mark: mark === "" ? undefined : readMode(mark) },
        opened: { suspects: Number(suspects), attempts: Number(attempts) },
        waiting: { waking: head.map(readEntry), context },
      },
    };
  }

  /** Raises the lease's epoch to `epoch`, which is above that of the newest commit. */
  async raiseEpoch(sessionId: string, lease: Lease, epoch: number): Promise<void> {
    const keys = sessionKeys(sessionId);
    const code = await scripts.raiseEpoch.run(
      this.#redis,
      [keys.lease, keys.session],
      [lease.nonce, lease.epoch, epoch],
    );
    if (code !== 1) throw new FencedError("raise epoch");
  }

  async renewLease(sessionId: string, lease: Lease, ttlMs: number): Promise<void> {
    const keys = sessionKeys(sessionId);
    const code = await scripts.renewLease.run(this.#redis, [keys.lease], [lease.nonce, lease.epoch, ttlMs]);
    if (code !== 1) throw new FencedError("renew");
  }

  /**
   * Releases the lease. `false`: messages wait, so serve on; with `handBack` they may wait. `generation` is
   * the newest that the activation knows to stand: it has to be published. Not `clean` where a commit of it
   * may still become visible: the next activation then begins with a takeover record.
   */
  async releaseLease(
    sessionId: string,
    lease: Lease,
    {
      generation,
      handBack,
      clean = true,
    }: { readonly generation: number; readonly handBack: boolean; readonly clean?: boolean },
  ): Promise<boolean> {
    const keys = sessionKeys(sessionId);
    const code = await scripts.releaseLease.run(
      this.#redis,
      [keys.lease, keys.session, keys.mailbox],
      [lease.nonce, lease.epoch, generation, handBack ? 1 : 0, IDLE_SESSION_TTL_MS, clean ? 1 : 0],
    );
    if (code === -1) throw new FencedError("release");
    if (code === -2) throw new Error("a generation was committed and not published: release refused");
    return code === 1;
  }

  /**
   * Marks the messages of a turn as running; gives how often each failed before.
   *
   * @param alone on a worker that has nothing else to do: its death counts as a failure of the messages. @default false
   * @throws TurnCancelledError where one of them was in a turn that is cancelled; nothing was changed then
   */
  async startTurn(
    sessionId: string,
    lease: Lease,
    messageIds: readonly string[],
    turnId: string,
    alone = false,
  ): Promise<number[]> {
    const keys = sessionKeys(sessionId);
    const event: SessionEvent = { type: "turn.started", turnId, messageIds };
    const [code, ...attempts] = (await scripts.startTurn.run(
      this.#redis,
      [keys.lease, keys.session, keys.events, ...messageIds.map(messageKey)],
      [
        lease.nonce,
        lease.epoch,
        ...this.#eventArguments(sessionId),
        JSON.stringify(event),
        turnId,
        spaced(messageIds),
        alone ? 1 : 0,
      ],
    )) as Code;
    if (code === 2) throw new TurnCancelledError(words(attempts[0]));
    if (code !== 1) throw new FencedError("start turn");
    return attempts.map(Number);
  }

  /**
   * How often each of these messages was in a turn whose worker died, and how often it failed. To be asked of the
   * messages of a turn that was left.
   */
  async countDeaths(sessionId: string, lease: Lease, messageIds: readonly string[]): Promise<Deaths[]> {
    const [code, ...counts] = (await scripts.countDeaths.run(
      this.#redis,
      [sessionKeys(sessionId).lease, ...messageIds.map(messageKey)],
      [lease.nonce, lease.epoch],
    )) as Code;
    if (code !== 1) throw new FencedError("count deaths");
    return messageIds.map((_, index) => ({
      suspects: Number(counts[2 * index]),
      attempts: Number(counts[2 * index + 1]),
    }));
  }

  /**
   * Marks the turn that runs, or whose retry waits, as cancelled, and tells the worker that holds the session. Its
   * messages end as cancelled by the next commit, whoever makes it.
   *
   * @param turnId the turn that is meant; undefined: whichever it is
   * @throws TurnNotRunningError
   */
  async cancelTurn(sessionId: string, turnId: string | undefined): Promise<CancelledTurn> {
    const keys = sessionKeys(sessionId);
    const [code, leased, turn, messageIds] = (await scripts.cancelTurn.run(
      this.#redis,
      [keys.session, keys.lease, keys.events],
      [turnId ?? "", ...this.#eventArguments(sessionId), workerChannel(""), sessionId],
    )) as Code;
    if (code === 0) throw new TurnNotRunningError(turnId);
    return { turnId: String(turn), messageIds: words(messageIds), leased: leased === 1 };
  }

  /** How the turn is marked, where it is to end before its time. */
  async readMark(sessionId: string, turnId: string): Promise<CancelMode | undefined> {
    const [cancel, mode] = await this.#redis.hmget(sessionKeys(sessionId).session, "cancel", "cancelMode");
    return cancel === turnId ? readMode(mode) : undefined;
  }

  /** The answer to a question of the turn that runs; undefined where there is none yet. */
  async readAnswer(sessionId: string, questionId: string): Promise<AcceptedMessage | undefined> {
    const keys = sessionKeys(sessionId);
    const answers = words((await this.#redis.hget(keys.session, "answers")) ?? "");
    const seq = answers.find((answer) => answer.startsWith(`${questionId}:`))?.split(":")[1];
    if (seq === undefined) return undefined;
    const entries: Entry[] = await this.#redis.xrange(keys.mailbox, `${seq}-0`, `${seq}-0`);
    return entries.map(readEntry)[0]?.message;
  }

  /** Whether the turn that was started last, and has not ended, is marked: it waits for nothing. */
  async isTurnMarked(sessionId: string): Promise<boolean> {
    const [turn, cancel] = await this.#redis.hmget(sessionKeys(sessionId).session, "turn", "cancel");
    return typeof turn === "string" && turn === cancel;
  }

  /**
   * Records a failed turn. Where it was not the messages' fault it is not `counted` as an attempt.
   *
   * @returns true where the turn is marked to be cancelled or rolled back: it waits for no retry
   */
  async failTurn(
    sessionId: string,
    lease: Lease,
    messageIds: readonly string[],
    failure: {
      readonly turnId: string;
      readonly error: { readonly code: string; readonly message: string };
      readonly counted: boolean;
      readonly retryInMs: number;
      /** Its messages are in no turn with others any more. @default false */
      readonly oneByOne?: boolean;
    },
  ): Promise<boolean> {
    const keys = sessionKeys(sessionId);
    const { turnId, error, counted, retryInMs, oneByOne = false } = failure;
    const event: SessionEvent = { type: "turn.failed", turnId, error, counted, retryInMs };
    const code = await scripts.failTurn.run(
      this.#redis,
      [keys.lease, keys.session, keys.events, ...messageIds.map(messageKey)],
      [
        lease.nonce,
        lease.epoch,
        ...this.#eventArguments(sessionId),
        JSON.stringify(event),
        counted ? 1 : 0,
        JSON.stringify(error),
        Math.ceil(retryInMs),
        turnId,
        spaced(messageIds),
        oneByOne ? 1 : 0,
      ],
    );
    if (code === -1) throw new FencedError("fail turn");
    return code === 2;
  }

  /**
   * After a commit: its replies to the outbox, the messages it ends out of the mailbox (I5, I6). Idempotent. Dead
   * messages are listed before: dead they are by the commit, and whoever dies in between, the next one publishes again.
   *
   * @returns how many messages that wake wait now
   */
  async publish(
    sessionId: string,
    lease: Lease,
    commit: {
      readonly generation: number;
      readonly replies: readonly PublishedReply[];
      readonly ends: readonly MessageEnd[];
      /** Messages that it says were dropped from the context. @default 0 */
      readonly contextDropped?: number | undefined;
      /** What one of the replies asks. @default nothing */
      readonly asks?: AskedQuestion | undefined;
    },
  ): Promise<number> {
    const keys = sessionKeys(sessionId);
    const { asks } = commit;
    for (const end of commit.ends) await this.#listDead(end, commit.generation);
    // One that is not listed is forgotten later than it might be.
    const listed = this.#endedRecords
      .add(commit.ends.map(({ message }) => message.id))
      .catch(() => undefined);
    const code = await scripts.publish.run(
      this.#redis,
      [
        keys.lease,
        keys.session,
        keys.mailbox,
        keys.outbox,
        keys.replies,
        keys.delivered,
        keys.events,
        keys.context,
        ...commit.ends.map(({ message }) => messageKey(message.id)),
      ],
      [
        lease.nonce,
        lease.epoch,
        commit.generation,
        this.#options.recordTtlMs,
        ...this.#eventArguments(sessionId),
        commit.contextDropped ?? 0,
        ...(asks === undefined
          ? ["", "", 0, ""]
          : [asks.id, spaced(asks.askedOf.map(speakerOf)), Math.ceil(asks.waitMs), questionEvent(asks)]),
        commit.replies.length,
        ...commit.replies.flatMap((reply) => [
          reply.id,
          reply.generation * REPLIES_PER_GENERATION + reply.index,
          JSON.stringify(reply),
        ]),
        ...commit.ends.flatMap(({ message, outcome, error }) => [
          message.id,
          outcome,
          error ? JSON.stringify(error) : "",
        ]),
      ],
    );
    await listed;
    if (Number(code) < 0) throw new FencedError("publish");
    return Number(code);
  }

  /** An operation is no word of a conversation: whoever asked for it sees its record. */
  async #listDead(end: MessageEnd, generation: number): Promise<void> {
    const { message, outcome } = end;
    if (outcome !== "dead" || message.operation !== undefined) return;
    await this.#deadLetters.list(message.tenant, message.id, summarizeDeadMessage(end, generation));
  }

  /** The newest generation whose replies were published, as Redis has it; 0 where it knows of none. */
  async readPublishedGeneration(sessionId: string): Promise<number> {
    return Number((await this.#redis.hget(sessionKeys(sessionId).session, "generation")) ?? 0);
  }

  /** Replies that are published and not recorded as delivered, in order, at most `limit`. */
  async readOutbox(sessionId: string, limit: number): Promise<PublishedReply[]> {
    const keys = sessionKeys(sessionId);
    const ids = await this.#redis.zrange(keys.outbox, "0", String(limit - 1));
    if (ids.length === 0) return [];
    const replies = await this.#redis.hmget(keys.replies, ...ids);
    return replies.filter((reply) => reply !== null).map((reply) => JSON.parse(reply) as PublishedReply);
  }

  /**
   * Records that a reply is about to be sent. Undefined where it is not in the outbox (any more). `mayResend`: whether
   * it may be sent again after a call of which nobody knows what became of it; where not, such a reply is not started.
   */
  async startDelivery(reply: PublishedReply, mayResend: boolean): Promise<StartedDelivery | undefined> {
    const keys = sessionKeys(reply.sessionId);
    const [code, attempts, sinceFirstMs] = (await scripts.startDelivery.run(
      this.#redis,
      [keys.outbox, keys.sending],
      [reply.id, DEAD_REPLIES_TTL_MS, mayResend ? 1 : 0],
    )) as Code;
    if (code === 0) return undefined;
    return { started: code === 1, attempts: Number(attempts), sinceFirstMs: Number(sinceFirstMs) };
  }

  /** Records that the call that was started last was not taken, for certain. */
  async recordRefusal({ id, sessionId }: PublishedReply): Promise<void> {
    await scripts.recordRefusal.run(this.#redis, [sessionKeys(sessionId).sending], [id]);
  }

  /**
   * Gives a reply up; `false` where it was settled before. It is listed before: whoever dies in between gives it up again.
   */
  async buryReply(dead: DeadReply): Promise<boolean> {
    const { reply, error } = dead;
    const id = deadReplyId(reply.sessionId, reply.id);
    await this.#deadLetters.list(reply.tenant, id, summarizeDeadReply(reply, error), dead.diedAt);
    const keys = sessionKeys(reply.sessionId);
    const event: SessionEvent = { type: "reply.dead", replyId: reply.id, error };
    const code = await scripts.buryReply.run(
      this.#redis,
      [keys.outbox, keys.replies, keys.delivered, keys.events, keys.sending, keys.deadReplies],
      [
        reply.id,
        DELIVERIES_REMEMBERED,
        this.#options.recordTtlMs,
        ...this.#eventArguments(reply.sessionId),
        JSON.stringify(event),
        JSON.stringify(dead),
        DEAD_REPLIES_KEPT,
        DEAD_REPLIES_TTL_MS,
      ],
    );
    return code === 1;
  }

  /** The dead replies that a session keeps, oldest first. */
  async readDeadReplies(sessionId: string): Promise<DeadReply[]> {
    const entries = await this.#redis.xrange(sessionKeys(sessionId).deadReplies, "-", "+");
    return entries.map(([, fields]) => JSON.parse(fields[1] as string) as DeadReply);
  }

  /**
   * Takes a dead reply back into the outbox, at its place in the order; it still has to be woken for. The session is put
   * into the pending index first, so that the sweeper finds it whatever dies after.
   *
   * @returns `dead`: it was, and gives it; `waiting`: it is in the outbox already; `unknown`: neither
   */
  async reviveReply(
    sessionId: string,
    replyId: string,
  ): Promise<
    { readonly was: "dead" | "waiting"; readonly reply: PublishedReply } | { readonly was: "unknown" }
  > {
    const keys = sessionKeys(sessionId);
    const found = await this.#findDeadReply(sessionId, replyId);
    if (found !== undefined) {
      const { entryId, reply } = found;
      await scripts.indexPending.run(this.#redis, [pendingKey(sessionId)], [sessionId]);
      const code = await scripts.reviveReply.run(
        this.#redis,
        [keys.outbox, keys.replies, keys.delivered, keys.sending, keys.deadReplies],
        [replyId, entryId, reply.generation * REPLIES_PER_GENERATION + reply.index, JSON.stringify(reply)],
      );
      if (code === 1) return { was: "dead", reply };
    }
    const waiting = await this.#redis.hget(keys.replies, replyId);
    if (waiting === null) return { was: "unknown" };
    return { was: "waiting", reply: JSON.parse(waiting) as PublishedReply };
  }

  /** Forgets a dead reply; `false` where there is none (any more). */
  async dropDeadReply(sessionId: string, replyId: string): Promise<boolean> {
    const found = await this.#findDeadReply(sessionId, replyId);
    if (found === undefined) return false;
    return (await this.#redis.xdel(sessionKeys(sessionId).deadReplies, found.entryId)) === 1;
  }

  async #findDeadReply(
    sessionId: string,
    replyId: string,
  ): Promise<{ readonly entryId: string; readonly reply: PublishedReply } | undefined> {
    const entries = await this.#redis.xrange(sessionKeys(sessionId).deadReplies, "-", "+");
    for (const [entryId, fields] of entries) {
      const { reply } = JSON.parse(fields[1] as string) as DeadReply;
      if (reply.id === replyId) return { entryId, reply };
    }
    return undefined;
  }

  /** Records a delivery; `false` where it was recorded before. */
  async markDelivered(reply: PublishedReply, platformMessageId: string | undefined): Promise<boolean> {
    const keys = sessionKeys(reply.sessionId);
    const event: SessionEvent = {
      type: "reply.delivered",
      replyId: reply.id,
      ...(platformMessageId === undefined ? {} : { platformMessageId }),
    };
    const code = await scripts.markDelivered.run(
      this.#redis,
      [keys.outbox, keys.replies, keys.delivered, keys.events, keys.sending],
      [
        reply.id,
        DELIVERIES_REMEMBERED,
        this.#options.recordTtlMs,
        ...this.#eventArguments(reply.sessionId),
        JSON.stringify(event),
      ],
    );
    return code === 1;
  }

  async addEvents(sessionId: string, events: readonly SessionEvent[]): Promise<void> {
    await scripts.addEvents.run(
      this.#redis,
      [sessionKeys(sessionId).events],
      [...this.#eventArguments(sessionId), ...events.map((event) => JSON.stringify(event))],
    );
  }

  /** Events after the entry `after` (an id of the stream; `0` for all that are kept), at most `limit`. */
  async readEvents(
    sessionId: string,
    after: string,
    limit: number,
  ): Promise<{ readonly id: string; readonly event: SessionEvent }[]> {
    const start = after === "0" ? "-" : `(${after}`;
    const entries = await this.#redis.xrange(sessionKeys(sessionId).events, start, "+", "COUNT", limit);
    return entries.map(([id, fields]) => ({ id, event: JSON.parse(fields[1] as string) as SessionEvent }));
  }

  /** Whether an event is still kept: where it is not, others after it may be gone too. */
  async hasEvent(sessionId: string, id: string): Promise<boolean> {
    const entries = await this.#redis.xrange(sessionKeys(sessionId).events, id, id, "COUNT", 1);
    return entries.length > 0;
  }

  /** The id of the newest event, `0` where there is none. */
  async newestEventId(sessionId: string): Promise<string> {
    const entries = await this.#redis.xrevrange(sessionKeys(sessionId).events, "+", "-", "COUNT", 1);
    return entries[0]?.[0] ?? "0";
  }

  /** The record of a message; undefined where none is kept (any more). */
  async readMessage(messageId: string): Promise<MessageRecord | undefined> {
    const fields = await this.#redis.hgetall(messageKey(messageId));
    if (fields.seq === undefined) return undefined;
    return {
      seq: Number(fields.seq),
      state: readState(fields.state),
      acceptedAt: Number(fields.acceptedAt),
      attempts: Number(fields.attempts ?? 0),
      suspects: Number(fields.suspects ?? 0),
      troubles: Number(fields.troubles ?? 0),
      ...(fields.endedAt === undefined ? {} : { endedAt: Number(fields.endedAt) }),
      ...(fields.generation === undefined ? {} : { generation: Number(fields.generation) }),
      ...(fields.error === undefined ? {} : { error: JSON.parse(fields.error) }),
    };
  }

  /** What a sweep needs to know of a session, in one round trip. */
  async inspect(sessionId: string): Promise<SessionSummary> {
    const keys = sessionKeys(sessionId);
    const results = await this.#redis
      .pipeline()
      .hgetall(keys.lease)
      .xlen(keys.mailbox)
      .xrange(keys.mailbox, "-", "+", "COUNT", 1)
      .zcard(keys.outbox)
      .hgetall(keys.session)
      .exec();
    const value = (index: number): unknown => {
      const [error, result] = results?.[index] ?? [new Error("no answer from Redis")];
      if (error) throw error;
      return result;
    };
    const lease = value(0) as Record<string, string>;
    const session = value(4) as Record<string, string>;
    const oldest = (value(2) as [string, string[]][])[0]?.[0];
    return {
      leasedBy: lease.worker,
      waiting: value(1) as number,
      oldestSeq: oldest === undefined ? undefined : Number(oldest.split("-")[0]),
      undelivered: value(3) as number,
      tenant: session.tenant,
      agent: session.agent,
      retryAt: Number(session.retryAt ?? 0),
      generation: Number(session.generation ?? 0),
    };
  }

  /** Takes an empty session out of the pending index if nothing was accepted since `score` was read. */
  async forgetPending(sessionId: string, score: string): Promise<void> {
    await scripts.forgetPending.run(this.#redis, [pendingKey(sessionId)], [sessionId, score]);
  }
}

export interface SessionSummary {
  /** The worker whose activation holds the session now. */
  readonly leasedBy: string | undefined;
  /** Messages in the mailbox. */
  readonly waiting: number;
  /** Number of the oldest of them: microseconds since the epoch when it was accepted, about. */
  readonly oldestSeq: number | undefined;
  /** Replies in the outbox. */
  readonly undelivered: number;
  readonly tenant: string | undefined;
  readonly agent: string | undefined;
  /** When the next attempt is due, in ms since the epoch; 0 where none waits. */
  readonly retryAt: number;
  /** The newest generation that was published. */
  readonly generation: number;
}

type Entry = [id: string, fields: string[]];

function readEntry([id, fields]: Entry): WaitingMessage {
  return {
    seq: Number(id.split("-")[0]),
    message: acceptedMessageSchema.parse(JSON.parse(fields[1] as string)),
  };
}

function questionEvent({ turnId, id, text, options }: AskedQuestion): string {
  return JSON.stringify({ type: "question", turnId, questionId: id, text, options } satisfies SessionEvent);
}

/** Who says it where: one word. */
function speakerOf({ channel, conversation, thread, sender }: AcceptedMessage): string {
  return hashId("speaker", channel, conversation, thread ?? "", sender.id);
}

/** Ids as scripts look for one of them: each with a space before and after it. */
function spaced(ids: readonly string[]): string {
  return ids.map((id) => ` ${id} `).join("");
}

function words(text: unknown): string[] {
  return String(text).split(" ").filter(Boolean);
}

function readMode(text: unknown): CancelMode {
  if (text !== "cancel" && text !== "rollback") throw new Error(`unknown mark ${JSON.stringify(text)}`);
  return text;
}

function readState(text: unknown): MessageState {
  const state = messageStates.find((known) => known === text);
  if (state === undefined) throw new Error(`unknown message state ${JSON.stringify(text)}`);
  return state;
}
