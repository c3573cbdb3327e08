import type { AgentContext, TokenCounts } from "./agent-usage.ts";
import type { MessageState } from "./message.ts";

/**
 * What happens in a session, as its events say it to whoever follows them. Never the only record of
 * anything: the stream is capped and expires.
 */
export type SessionEvent =
  | { readonly type: "accepted"; readonly messageId: string }
  | { readonly type: "turn.started"; readonly turnId: string; readonly messageIds: readonly string[] }
  /** A piece of what the agent says, as it comes; pieces of one turn, joined, are its text. */
  | { readonly type: "text"; readonly turnId: string; readonly text: string }
  | {
      readonly type: "tool";
      readonly turnId: string;
      readonly toolCallId: string;
      readonly title?: string;
      readonly status?: string;
    }
  /** What the agent means to do; the last one counts. */
  | {
      readonly type: "plan";
      readonly turnId: string;
      readonly entries: readonly { readonly content: string; readonly status: string }[];
    }
  /** The turn waits for the next message of one whom it answers. */
  | {
      readonly type: "question";
      readonly turnId: string;
      readonly questionId: string;
      readonly text: string;
      readonly options: readonly string[];
    }
  /** What the turn used so far, as the agent reports it: `tokens` at its end, `context` as often as the agent says it. */
  | {
      readonly type: "usage";
      readonly turnId: string;
      readonly tokens?: TokenCounts;
      readonly context?: AgentContext;
    }
  /**
   * The turn is to end before its time: `cancel` ends its messages, what it did stays; `rollback` drops what it did,
   * and its messages run again with those that came behind them.
   */
  | { readonly type: "turn.cancelling"; readonly turnId: string; readonly mode: "cancel" | "rollback" }
  | {
      readonly type: "turn.failed";
      readonly turnId: string;
      readonly error: { readonly code: string; readonly message: string };
      readonly counted: boolean;
      readonly retryInMs: number;
    }
  | {
      readonly type: "message.ended";
      readonly messageId: string;
      readonly outcome: MessageState;
      readonly generation: number;
    }
  | { readonly type: "reply.delivered"; readonly replyId: string; readonly platformMessageId?: string }
  /** Delivery was given up: the reply is a dead reply now. */
  | {
      readonly type: "reply.dead";
      readonly replyId: string;
      readonly error: { readonly code: string; readonly message: string };
    };
