import type { CommitKind, SessionRef, SessionStore, WorkingCopy } from "@longshore/session-store";
import {
  type AcceptedMessage,
  type AgentDefinition,
  endMessage,
  type Logger,
  type Metrics,
  type SessionState,
} from "@longshore/shared";
import type { NextNote } from "./commit-notes.ts";
import type { CommitPoint } from "./commit-point.ts";
import { HandedBackError, RolledBackError } from "./errors.ts";
import { classifyFailure, classifyOperationFailure, type Failure, retryDelayMs } from "./failure.ts";
import type { LeaseKeeper } from "./lease-keeper.ts";
import { replyTo } from "./replies.ts";
import { turnIdOf } from "./turn.ts";

/** For a session whose agent is not configured, so that its own policy is unknown; times in ms. */
const DEFAULT_RETRY = { attempts: 5, backoff: 5_000, longest: 300_000 };

export interface FailedMessagesOptions {
  readonly state: SessionState;
  readonly store: SessionStore;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly random: () => number;
  readonly ref: SessionRef;
  readonly keeper: LeaseKeeper;
  readonly commits: CommitPoint;
  readonly agentName: string;
  /** Undefined where the agent is not configured (any more). */
  readonly definition: AgentDefinition | undefined;
}

/**
 * What becomes of a message that could not be answered: it is tried again after a while, at the head of its mailbox
 * still (I1), or becomes a dead letter, so that what waits behind it is next. How, `classifyFailure` says.
 *
 * The conversation is told of a dead letter. An operation is no word of a conversation: who asked for it sees its
 * record.
 */
export class FailedMessages {
  readonly #options: FailedMessagesOptions;

  constructor(options: FailedMessagesOptions) {
    this.#options = options;
  }

  /**
   * Gives after how many ms the session is to be looked at again.
   *
   * @param messages of one turn, or one operation; at least one
   */
  async settle(messages: readonly AcceptedMessage[], error: unknown): Promise<number> {
    const [message] = messages;
    if (message === undefined) throw new RangeError("no message");
    if (messages.length > 1) return await this.#settleTogether(messages, error);
    const { state, metrics, random, log, definition, agentName } = this.#options;
    const handedBack = error instanceof HandedBackError || error instanceof RolledBackError;
    const failure = classify(message, error);
    const { attempts = 0, troubles = 0 } = (await state.readMessage(message.id)) ?? {};
    const counted = failure.kind === "counted";
    log.warn(
      { turnId: this.#turnId(messages), messageIds: [message.id], err: error, kind: failure.kind, attempts },
      message.operation === undefined ? "turn failed" : "operation failed",
    );
    const retry = definition?.retry ?? DEFAULT_RETRY;
    if (failure.kind === "hopeless" || (counted && attempts + 1 >= retry.attempts)) {
      if (counted) await this.#record(messages, failure, 0);
      await this.#bury(message, failure);
      return 0;
    }
    const retryInMs = handedBack ? 0 : retryDelayMs(counted ? attempts : troubles, retry, random);
    const marked = await this.#record(messages, failure, retryInMs);
    if (message.operation === undefined)
      metrics.turns.inc({ agent: agentName, outcome: handedBack ? "handed_back" : "failed" });
    return marked ? 0 : retryInMs;
  }

  /**
   * Several messages were in a turn that failed: which of them spoilt it can't be known, so that it counts for none. They
   * are served one by one from now on, and the one that did it fails alone.
   */
  async #settleTogether(messages: readonly AcceptedMessage[], error: unknown): Promise<number> {
    const { state, metrics, random, log, definition, agentName } = this.#options;
    const failure = classifyFailure(error);
    const isInnocent = failure.kind === "innocent";
    const handedBack = error instanceof HandedBackError || error instanceof RolledBackError;
    const messageIds = messages.map(({ id }) => id);
    log.warn({ turnId: this.#turnId(messages), messageIds, err: error, kind: failure.kind }, "turn failed");
    const { troubles = 0 } = (await state.readMessage(messages[0]?.id ?? "")) ?? {};
    const retry = definition?.retry ?? DEFAULT_RETRY;
    const retryInMs = handedBack ? 0 : retryDelayMs(troubles, retry, random);
    const marked = await this.#record(messages, { ...failure, kind: "innocent" }, retryInMs, !isInnocent);
    metrics.turns.inc({ agent: agentName, outcome: handedBack ? "handed_back" : "failed" });
    return marked ? 0 : retryInMs;
  }

  /**
   * Makes an operation that can't be applied a dead letter, where nothing else of a live session has failed.
   *
   * @throws the error itself where it is tried again, or may have been committed
   */
  async buryLive(copy: WorkingCopy, message: AcceptedMessage, error: unknown): Promise<void> {
    const { commits, log } = this.#options;
    const failure = classify(message, error);
    if (failure.kind !== "hopeless") throw error;
    const { kind, note } = this.#end(message, failure);
    const commit = await commits.commitUnchanged(copy, kind, note).catch((cause: unknown) => {
      // A copy that can't be used any more: the operation failed after its commit, which will be found.
      log.warn({ err: cause }, "no dead letter by the live session");
      throw error;
    });
    log.warn({ messageIds: [message.id], err: error, generation: commit.generation }, "operation refused");
  }

  /**
   * Makes a message a dead letter: a commit without a change, which ends it. One that a commit has ended already (a
   * predecessor's, late) stays ended so.
   */
  async #bury(message: AcceptedMessage, failure: Failure): Promise<void> {
    const { store, ref, keeper, commits, metrics, log, agentName } = this.#options;
    const newest = await store.readNewest(ref, keeper.signal);
    await commits.adopt(newest);
    if ((await commits.nextMessage(newest))?.id !== message.id) return;
    const { kind, note } = this.#end(message, failure);
    const commit = await commits.commitWhole(newest, kind, note);
    if (message.operation === undefined) metrics.turns.inc({ agent: agentName, outcome: "dead" });
    log.warn(
      { messageIds: [message.id], generation: commit.generation, code: failure.error.code },
      "dead letter",
    );
  }

  #end(message: AcceptedMessage, { error }: Failure): { readonly kind: CommitKind; readonly note: NextNote } {
    const { agentName } = this.#options;
    const ends = [endMessage(message, "dead", error)];
    const text = `This message could not be answered (${error.code}).`;
    const notice = replyTo([message], { kind: "notice", text, artifacts: [], refused: [] });
    const replies = message.operation === undefined ? [notice] : [];
    return { kind: message.operation?.type ?? "turn", note: { agent: agentName, ends, replies } };
  }

  /** True where the turn is marked to be cancelled: its retry does not wait. */
  #record(
    messages: readonly AcceptedMessage[],
    { kind, error }: Failure,
    retryInMs: number,
    oneByOne = false,
  ): Promise<boolean> {
    const { state, ref, keeper } = this.#options;
    const messageIds = messages.map(({ id }) => id);
    return state.failTurn(ref.sessionId, keeper.lease, messageIds, {
      turnId: this.#turnId(messages),
      error,
      counted: kind === "counted",
      retryInMs,
      oneByOne,
    });
  }

  #turnId(messages: readonly AcceptedMessage[]): string {
    return turnIdOf(this.#options.keeper.lease.nonce, messages);
  }
}

function classify(message: AcceptedMessage, error: unknown): Failure {
  return message.operation === undefined ? classifyFailure(error) : classifyOperationFailure(error);
}
