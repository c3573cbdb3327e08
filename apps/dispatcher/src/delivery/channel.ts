import { LongshoreError, type PublishedReply } from "@longshore/shared";

/** What became of a call: the platform's own id of the message, where it gives one. */
export interface Delivered {
  readonly platformMessageId?: string;
}

/**
 * A way to bring replies to a conversation. What became of a call without an answer can't be known: the reply is sent
 * again under the same id, by which the receiver takes it once.
 */
export interface Channel {
  /** Failed calls are tried again with this back-off, until `giveUpMs` after the first one. */
  readonly retry: { readonly firstMs: number; readonly longestMs: number; readonly giveUpMs: number };
  /** Bounded in time by the channel itself. Throws `DeliveryError` where the reply was not taken for certain. */
  deliver(reply: PublishedReply): Promise<Delivered>;
}

/**
 * A reply was not delivered, or nobody knows. Codes: `WEBHOOK_STATUS`, `WEBHOOK_UNREACHABLE`,
 * `WEBHOOK_TIMEOUT`, `UNKNOWN_CHANNEL`.
 */
export class DeliveryError extends LongshoreError {
  /** The receiver asks for so much time before the next call, in ms. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: string,
    message: string,
    options?: { readonly retryAfterMs?: number | undefined; readonly cause?: unknown },
  ) {
    super(code, message, { retryable: true, cause: options?.cause });
    this.retryAfterMs = options?.retryAfterMs;
  }
}
