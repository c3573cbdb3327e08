import type {
  AcceptedMessage,
  AgentContext,
  ConversationPlace,
  StoredAttachment,
  TokenCounts,
} from "@longshore/shared";
import { FencedError } from "@longshore/shared";
import { RolledBackError } from "./errors.ts";
import type { OutgoingMessage, SentMessage } from "./outgoing.ts";
import type { Answer, Question } from "./question.ts";
import type { SessionTools } from "./tools/session-tools.ts";

/** How long an agent that was told to end a turn may take before it is given up on, in ms. */
export const CANCEL_GRACE_MS = 15_000;

/** What an agent says in a turn, whatever its contract. */
export type AgentUpdate =
  /** A piece of text. */
  | { readonly type: "text"; readonly text: string }
  /** A whole text that is meant as the reply, whatever was said beside it. */
  | { readonly type: "reply"; readonly text: string }
  | {
      readonly type: "tool";
      readonly id: string;
      readonly title?: string | undefined;
      readonly status?: string | undefined;
    }
  | { readonly type: "plan"; readonly entries: readonly PlanEntry[] }
  /** What the turn used, once, at its end. */
  | { readonly type: "tokens"; readonly tokens: TokenCounts }
  /** How full the agent's context is. */
  | { readonly type: "context"; readonly context: AgentContext }
  /** A file that goes with the reply, by the path that the agent has for it. */
  | { readonly type: "file"; readonly path: string }
  /** What it says ends here, before its time. */
  | { readonly type: "cut"; readonly reason: string };

/** Something that an agent means to do in a turn. */
export interface PlanEntry {
  readonly content: string;
  readonly status: string;
}

/** What a turn asks of an agent. */
export interface TurnPrompt {
  readonly turnId: string;
  /** In the order in which they were accepted; at least one. */
  readonly messages: readonly AcceptedMessage[];
  /** What the agent sent in earlier attempts at this turn, whose doings were dropped. */
  readonly sent: readonly string[];
  /** Other conversations that it may write to, by its name for each. */
  readonly destinations: Readonly<Record<string, ConversationPlace>>;
  /** The whole content of an attachment of one of the messages. @throws errors of the store */
  readonly read: (attachment: StoredAttachment) => Promise<Buffer>;
}

export interface PromptOptions {
  /** Each update of the turn, as it comes. */
  readonly onUpdate: (update: AgentUpdate) => void;
  /** Sends a message before the turn has ended. @throws errors of the store */
  readonly send: (message: OutgoingMessage) => Promise<SentMessage>;
  /** Asks the conversation. @returns undefined when nobody answered in time. @throws as `Questions.ask` */
  readonly ask: (question: Question) => Promise<Answer | undefined>;
  /** What the agent may have done besides, in the turn's name. */
  readonly tools: SessionTools;
  /**
   * Until when somebody was asked last, in ms of the clock's `monotonic`: now, while somebody is; -Infinity where nobody was. Until
   * then the agent's silence is none.
   */
  readonly askedUntil: () => number;
  /**
   * Ends the turn: the agent is asked to end it, and given up on where it does not in time (`CANCEL_GRACE_MS`); at once
   * where the reason is one of those that `endsAtOnce` names.
   */
  readonly signal: AbortSignal;
}

/**
 * An agent, as a turn sees it: what its definition's `contract` leaves the same. Nothing that it does is trusted; all
 * that it says is bounded, and every wait for it has a limit.
 */
export interface Agent {
  /** Resolves when it can serve no further turn, by itself or by `close`. */
  readonly ended: Promise<void>;
  readonly hasEnded: boolean;

  /**
   * To be called once, before the first turn and when the directory is the session's.
   *
   * @param earlier what `open` gave in an earlier activation of the session
   * @returns what it is to be given next time; undefined where it needs nothing
   */
  open(earlier: string | undefined, signal: AbortSignal): Promise<string | undefined>;

  /**
   * One turn. @throws the reason of `signal` where that ended it; `TurnTimeoutError` beyond the turn's limit or its idle
   * limit; `AgentExitedError`, `AgentOutOfMemoryError`, `AgentRefusedError`; errors of the sandbox
   */
  prompt(prompt: TurnPrompt, options: PromptOptions): Promise<unknown>;

  /** The last lines that its program wrote to standard error: bounded, valid Unicode. */
  stderrTail(): string;

  close(): void;
}

/** Whether a turn that ends for this reason leaves nothing behind, so that the agent need not come to an end by itself. */
export function endsAtOnce(reason: unknown): boolean {
  return reason instanceof FencedError || reason instanceof RolledBackError;
}
