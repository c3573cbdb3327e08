import type { Commit } from "@longshore/session-store";
import type { AcceptedMessage, CommitNote, MessageRecord } from "@longshore/shared";
import type { LogLine } from "../support/app-process.ts";
import type { PlannedMessage } from "./planned-message.ts";

/** Milliseconds since the epoch: the whole fleet is on one host. */
export type Time = number;

/** A 202 for a message, or that a queue has it. */
export interface Acceptance {
  readonly at: Time;
  readonly messageId: string;
  /** Null where it had no place in the order yet: it was added to a queue, or waits for its time. */
  readonly seq: number | null;
  readonly duplicate: boolean;
}

/** A message as its sender remembers it. */
export interface SentMessage {
  readonly planned: PlannedMessage;
  readonly sentAt: Time;
  readonly acceptances: Acceptance[];
  /** The answer, where it was refused for good. */
  refusal?: string;
}

/** A call of the webhook. */
export interface ReplyCall {
  readonly at: Time;
  readonly key: string;
  readonly sessionId: string;
  readonly conversation: string;
  readonly text: string;
  readonly inReplyTo: readonly string[];
  /** What it was answered; 0 where it was cut off, or its caller had gone. */
  readonly status: number;
}

/** What a fault may do to those that are not its target, so that the checker knows what it explains. */
export type Effect =
  /** Redis may have lost the last second, or more. */
  | "redis-lost"
  /** Connections to Redis were cut, or it did not answer for a while. */
  | "redis-away"
  /** Activations lost the jobs that they run under. */
  | "jobs-lost"
  /** A worker did not run for longer than its lease. */
  | "worker-stopped"
  /** A dispatcher died, or was stopped. */
  | "dispatcher-gone"
  /** The receiver of replies failed. */
  | "receiver-failed";

/** Something that was done to the fleet. */
export interface Incident {
  readonly kind: string;
  readonly target: string;
  readonly from: Time;
  /** Undefined while it lasts. */
  until?: Time;
  readonly effects: readonly Effect[];
  /** What came of it, where that has to be known. */
  readonly detail?: Readonly<Record<string, unknown>>;
}

/** A commit that its worker was only let send when another had begun. */
export interface LateCommit {
  readonly sessionId: string;
  readonly generation: number;
  readonly worker: string;
}

/** A process of the fleet, as it was seen from outside. */
export interface ProcessHistory {
  readonly name: string;
  readonly app: "worker" | "dispatcher";
  readonly lines: readonly { readonly at: Time; readonly line: LogLine }[];
  readonly stderr: string;
  /** It ended without being told to. */
  readonly endedByItself: boolean;
}

/** A generation as it can be restored. */
export interface RestoredGeneration {
  readonly commit: Commit;
  readonly note: CommitNote;
  /** The session's counter in it. */
  readonly counter: number;
  /** Why it can't be restored. */
  readonly error?: string;
}

export interface SessionHistory {
  readonly conversation: string;
  readonly sessionId: string;
  readonly messages: readonly SentMessage[];
  /** What the fleet's own schedule sends. */
  readonly scheduled?: PlannedMessage | undefined;
  /** Whether what counts in it counts in the shared volume, too. */
  readonly hasVolume: boolean;
  /** Whether its agent takes no message while another of the session is unanswered. */
  readonly refuses: boolean;
  /** Whether a message may have been ended by a cancel, or by one that came while its turn ran. */
  readonly mayBeCancelled: (messageId: string) => boolean;
  /** Ascending; what the log holds, gaps and all. */
  readonly generations: readonly RestoredGeneration[];
  readonly calls: readonly ReplyCall[];
  readonly records: ReadonlyMap<string, MessageRecord>;
  readonly waiting: number;
  readonly undelivered: number;
}

/** What its sender meant by a message that the fleet knows; undefined where nobody sent it. */
export function plannedOf(
  { messages, scheduled }: Pick<SessionHistory, "messages" | "scheduled">,
  { id, text }: Pick<AcceptedMessage, "id" | "text">,
): PlannedMessage | undefined {
  const sent =
    messages.find(({ acceptances }) => acceptances.some(({ messageId }) => messageId === id)) ??
    // Its own text tells one apart whose 202 was lost.
    messages.find(({ planned }) => planned.text === text);
  return sent?.planned ?? (scheduled?.text === text ? scheduled : undefined);
}

/** All that is known of a run when it is over. */
export interface History {
  readonly leaseMs: number;
  readonly sessions: readonly SessionHistory[];
  /** The counter in the volume that sessions share, as it was committed last. */
  readonly volumeCounter: number;
  readonly incidents: readonly Incident[];
  readonly lateCommits: readonly LateCommit[];
  readonly processes: readonly ProcessHistory[];
  /** Calls for sessions that nobody sent a message to. */
  readonly strayCalls: readonly ReplyCall[];
  /** What was still there when everything had been stopped. */
  readonly leftovers: readonly string[];
  /** Messages that had not ended when waiting was over. */
  readonly unfinished: readonly string[];
}

/** Whether something with that effect happened in a span of time, with some margin. */
export function happened(
  { incidents }: Pick<History, "incidents">,
  effects: readonly Effect[],
  from: Time,
  until: Time,
  target?: string,
): boolean {
  return incidents.some(
    (incident) =>
      incident.effects.some((effect) => effects.includes(effect)) &&
      (target === undefined || incident.target === target || incident.target === "all") &&
      incident.from <= until &&
      (incident.until ?? Number.POSITIVE_INFINITY) >= from,
  );
}
