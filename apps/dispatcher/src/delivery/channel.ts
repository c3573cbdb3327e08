import { type ChannelDefinition, LongshoreError, type PublishedReply } from "@longshore/shared";

/** What became of a call: the platform's own id of the message, where it gives one. */
export interface Delivered {
  readonly platformMessageId?: string;
}

/**
 * What is done with a reply when nobody knows whether its last call was taken (no answer in time, a connection cut, a
 * dispatcher killed in the middle):
 *
 * - `idempotent`: it is sent again under the same key, by which the receiver takes it once.
 * - `resend`: it is sent again, although the receiver does not know the key: it may come twice.
 * - `hold`: it becomes a dead reply at once, and an operator decides. It comes once at most, unless they retry it.
 */
export type UnknownOutcome = Extract<ChannelDefinition, { type: "webhook" }>["unknownOutcome"];

/** A way to bring replies to a conversation. */
export interface Channel {
  /** Failed calls are tried again with this back-off, until `giveUpMs` after the first one. */
  readonly retry: { readonly firstMs: number; readonly longestMs: number; readonly giveUpMs: number };
  readonly unknownOutcome: UnknownOutcome;
  /** Bounded in time by the channel itself. Throws `DeliveryError` where the reply was not taken for certain. */
  deliver(reply: PublishedReply): Promise<Delivered>;
}

/**
 * A reply was not delivered, or nobody knows. Codes: `WEBHOOK_STATUS`, `WEBHOOK_GONE`, `WEBHOOK_UNREACHABLE`,
 * `WEBHOOK_TIMEOUT`, `LINK_UNAVAILABLE`, `UNKNOWN_CHANNEL`.
 */
export class DeliveryError extends LongshoreError {
  /** The receiver asks for so much time before the next call, in ms. */
  readonly retryAfterMs: number | undefined;
  /** `refused`: the reply was not taken for certain; `unknown`: it may have been. */
  readonly outcome: "refused" | "unknown";

  constructor(
    code: string,
    message: string,
    options: {
      readonly outcome: DeliveryError["outcome"];
      readonly retryAfterMs?: number | undefined;
      /** Whether a later call may be taken. @default true */
      readonly retryable?: boolean;
      readonly cause?: unknown;
    },
  ) {
    super(code, message, { retryable: options.retryable ?? true, cause: options.cause });
    this.retryAfterMs = options.retryAfterMs;
    this.outcome = options.outcome;
  }
}
