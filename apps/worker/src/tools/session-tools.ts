import type { SentMessage } from "../outgoing.ts";
import type { Answer, Question } from "../question.ts";

/** The entry of a schedule's metadata, and of its messages', with what its agent calls it. */
export const SCHEDULE_NAME = "schedule";

/** Names the answer of a turn before its commit gives it an id. */
export function answerAlias(turnId: string): string {
  return `answer-of-${turnId}`;
}

/** An entry of a conversation's history. */
export interface HistoryEntry {
  /** By which it can be edited or reacted to. */
  readonly id: string;
  readonly at: string;
  /** Of a message; undefined for what the agent, or the fleet, said. */
  readonly from?: string | undefined;
  readonly text: string;
  /** How a message ended. */
  readonly outcome?: string | undefined;
  /** Names of the files that went with it. */
  readonly files?: readonly string[] | undefined;
}

export interface SharedFile {
  readonly url: string;
  readonly expiresAt: string;
}

/** When a prompt is sent: one of `at` and `cron`. */
export interface ToolTiming {
  /** Once; ISO 8601 with an offset. */
  readonly at?: string | undefined;
  readonly cron?: string | undefined;
  /** Of the cron. @default the agent's */
  readonly timeZone?: string | undefined;
}

export interface ToolSchedule extends ToolTiming {
  readonly id: string;
  /** What the session's agent calls it, where it does. */
  readonly name?: string | undefined;
  readonly prompt: string;
  /** Where it is sent: `<channel>/<conversation>`. */
  readonly conversation: string;
  /** None while it is paused. */
  readonly nextAt?: string | undefined;
  readonly paused?: true | undefined;
}

/** What may be changed of a schedule. */
export interface ToolScheduleChange {
  readonly prompt?: string | undefined;
  readonly timing?: ToolTiming | undefined;
  readonly paused?: boolean | undefined;
}

/** What the fleet's tools do: for the session whose sandbox called them, and for nothing else. */
export interface SessionTools {
  /**
   * Sends a message now, before the turn's answer.
   *
   * @param message.files paths as the agent names them
   * @param message.to a destination's name. @default the turn's conversation
   * @returns its id, the files that went with it, and those that could not
   * @throws NoTurnError; UnknownDestinationError; errors of the store
   */
  sendMessage(message: {
    readonly text: string;
    readonly files: readonly string[];
    readonly to?: string | undefined;
  }): Promise<SentMessage>;
  /**
   * Gives a message of this session's agent another text.
   *
   * @throws NoTurnError; UnknownMessageError where it has sent none with this id lately; errors of the store
   */
  editMessage(messageId: string, text: string): Promise<void>;
  /**
   * Puts an emoji to a message.
   *
   * @param messageId @default the message that the turn answers
   * @throws as `editMessage`
   */
  react(emoji: string, messageId: string | undefined): Promise<void>;
  /**
   * Asks whoever sent the turn's messages, and waits for the answer.
   *
   * @returns undefined when nobody answered in time
   * @throws NoTurnError; TooManyQuestionsError; errors of the store
   */
  askUser(question: Question): Promise<Answer | undefined>;
  /**
   * Makes a link with which anyone may read a file as it is now.
   *
   * @param path as the agent names it
   * @throws NoTurnError; FileRefusedError; NoLinkError; errors of the store
   */
  shareFile(path: string): Promise<SharedFile>;
  /**
   * Has a prompt sent to the turn's conversation at set times, from this session's agent to itself.
   *
   * @param name of the agent's own, for `updateSchedule` and `cancelSchedule`; one of the same name is replaced
   * @throws NoTurnError; ScheduleElsewhereError; TooManySchedulesError; as `Schedules.put`
   */
  schedule(prompt: string, timing: ToolTiming, name?: string): Promise<ToolSchedule>;
  /** Those that this session's agent made; where its route says `operator`, those of its tenant. */
  listSchedules(): Promise<ToolSchedule[]>;
  /** @param id or the name that the session's agent gave it. @throws as `cancelSchedule`, and `Schedules.put` */
  updateSchedule(id: string, change: ToolScheduleChange): Promise<void>;
  /** @param id or its name. @throws ScheduleNotFoundError, also for what `listSchedules` does not show */
  cancelSchedule(id: string): Promise<void>;
  /** What was said in the session last, oldest first. @param limit entries at most */
  readHistory(limit: number): Promise<HistoryEntry[]>;
}
