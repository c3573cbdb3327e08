import { GenerationNotFoundError, ObjectNotFoundError, type SessionStore } from "@longshore/session-store";
import {
  type AcceptedMessage,
  commitNoteSchema,
  type DeadLetter,
  type DeadLetters,
  deriveRetryId,
  parseDeadReplyId,
  type ReplyWake,
  type SessionState,
  sessionOfMessageId,
  type WakeQueue,
} from "@longshore/shared";
import type { Acceptor } from "./accept.ts";
import { DeadLetterGoneError, DeadLetterNotFoundError } from "./dead-letter-errors.ts";
import { conversationOf } from "./delivery/conversation-key.ts";

export interface DeadLetterOfficeOptions {
  readonly letters: DeadLetters;
  readonly acceptor: Acceptor;
  readonly state: SessionState;
  readonly store: SessionStore;
  readonly replyWakes: WakeQueue<ReplyWake>;
}

/** What a retry came to. */
export type Retried =
  | {
      readonly kind: "message";
      /** Of the message that it is now. */
      readonly messageId: string;
      readonly sessionId: string;
      /** It was retried before. */
      readonly duplicate: boolean;
    }
  | {
      readonly kind: "reply";
      readonly replyId: string;
      readonly sessionId: string;
      readonly duplicate: boolean;
    };

/**
 * Second chances for what was given up on.
 *
 * A dead message is accepted again as a new one, with all that it said, at the end of its session's mailbox; then it
 * leaves the list. Killed in between it is listed still, and retried again it is the same new message. A dead reply
 * goes back to its place in the outbox; then it leaves the list, and its conversation is woken for. Killed in between,
 * the sweeper wakes.
 */
export class DeadLetterOffice {
  readonly #options: DeadLetterOfficeOptions;

  constructor(options: DeadLetterOfficeOptions) {
    this.#options = options;
  }

  /** A page of what is listed, latest first. @throws BadCursorError */
  page(
    tenant: string,
    options: { readonly limit: number; readonly cursor?: string | undefined },
  ): ReturnType<DeadLetters["page"]> {
    return this.#options.letters.page(tenant, options);
  }

  /**
   * @throws DeadLetterNotFoundError, DeadLetterGoneError; UnknownAgentError, UnknownChannelError where the message could
   *   not be answered any more; MailboxFullError
   */
  async retry(tenant: string, id: string, signal: AbortSignal): Promise<Retried> {
    const { letters } = this.#options;
    const letter = await letters.find(tenant, id);
    const ofReply = parseDeadReplyId(id);
    if (ofReply !== undefined) {
      if (letter === undefined) throw new DeadLetterNotFoundError();
      return await this.#retryReply(tenant, letter, ofReply.replyId);
    }
    if (letter !== undefined) return await this.#retryMessage(tenant, letter, signal);
    const settlement = await letters.findSettlement(tenant, id);
    if (settlement?.outcome !== "retried") throw new DeadLetterNotFoundError();
    const { messageId } = settlement;
    return { kind: "message", messageId, sessionId: sessionOfMessageId(messageId) ?? "", duplicate: true };
  }

  /** @throws DeadLetterNotFoundError */
  async drop(tenant: string, id: string): Promise<void> {
    const { letters, state } = this.#options;
    const letter = await letters.find(tenant, id);
    if (letter === undefined) throw new DeadLetterNotFoundError();
    const ofReply = parseDeadReplyId(id);
    if (ofReply === undefined) await letters.settle(tenant, id, { outcome: "dropped" });
    else {
      await state.dropDeadReply(ofReply.sessionId, ofReply.replyId);
      await letters.unlist(tenant, letter);
    }
  }

  async #retryMessage(tenant: string, letter: DeadLetter, signal: AbortSignal): Promise<Retried> {
    const { acceptor, letters } = this.#options;
    const { acceptedAt: _before, ...dead } = await this.#readMessage(tenant, letter, signal);
    const retryOf = { messageId: dead.retryOf?.messageId ?? dead.id, count: (dead.retryOf?.count ?? 0) + 1 };
    const messageId = deriveRetryId(retryOf.messageId, retryOf.count);
    const { duplicate } = await acceptor
      .acceptStored({ ...dead, id: messageId, retryOf })
      .catch((error: unknown) => {
        throw error instanceof ObjectNotFoundError ? new DeadLetterGoneError("an attachment", error) : error;
      });
    await letters.settle(tenant, letter.id, { outcome: "retried", messageId });
    return { kind: "message", messageId, sessionId: dead.sessionId, duplicate };
  }

  async #readMessage(
    tenant: string,
    { id, sessionId, generation }: DeadLetter,
    signal: AbortSignal,
  ): Promise<AcceptedMessage> {
    const gone = (cause?: unknown) => new DeadLetterGoneError(`generation ${generation}`, cause);
    const commit = await this.#options.store
      .readCommit({ tenant, sessionId }, generation, signal)
      .catch((error: unknown) => {
        throw error instanceof GenerationNotFoundError ? gone(error) : error;
      });
    const end = commitNoteSchema.parse(commit.note).ends.find(({ message }) => message.id === id);
    if (end === undefined) throw gone();
    const { operation: _none, ...message } = end.message;
    return message;
  }

  async #retryReply(tenant: string, letter: DeadLetter, replyId: string): Promise<Retried> {
    const { state, letters, replyWakes } = this.#options;
    const { sessionId } = letter;
    const revived = await state.reviveReply(sessionId, replyId);
    await letters.unlist(tenant, letter);
    if (revived.was === "unknown") throw new DeadLetterNotFoundError();
    await replyWakes.wake(conversationOf(revived.reply));
    return { kind: "reply", replyId, sessionId, duplicate: revived.was === "waiting" };
  }
}
