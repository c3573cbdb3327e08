import { hash } from "node:crypto";
import { sessionOfMessageId } from "./session-id.ts";

/** BullMQ's prefix and queues; the braces keep all of them in one slot of a Redis Cluster. */
export const QUEUE_PREFIX = "{longshore}";
export const queueNames = { inbound: "inbound", turns: "turns", replies: "replies" } as const;

/** Shards of the pending index. Changing it orphans index entries: it is part of the format. */
export const PENDING_SHARDS = 16;

/** Every key of a session; they share its tag, so that one script may touch all of them. */
export interface SessionKeys {
  /** Stream of accepted, unanswered messages; entry `<seq>-0`, field `m` (JSON of an `AcceptedMessage`). */
  readonly mailbox: string;
  /**
   * Stream of accepted messages that only add context; entry `<seq>-0` in one order with the mailbox, fields `m` (JSON),
   * `i` (id). Expires.
   */
  readonly context: string;
  /**
   * Hash: tenant, agent, lastSeq, epoch, released, generation, retryAt; turn, turnMessages (the turn that was started and
   * has not ended), cancel, cancelMode (the turn that is marked, and how), cancelled (the turn that ended so last);
   * contextDropped (messages that fell out of the context and that no commit has recorded); asking, askedOf, askingUntil
   * (what the turn asks, whom, until when), opening (what the newest activation began with, see `take-lease.lua`), answers (of its questions: `<question>:<seq>`, a space before each).
   */
  readonly session: string;
  /** Hash: nonce, worker, epoch; expires. */
  readonly lease: string;
  /** Sorted set of reply ids by place in the order. */
  readonly outbox: string;
  /** Hash of reply id to JSON of a `PublishedReply`, for what is in the outbox. */
  readonly replies: string;
  /** Sorted set of ids of replies that were delivered or given up on, by the time of it; capped, expires. */
  readonly delivered: string;
  /** Hash of reply id to `<attempts>:<ms of the first>:<unknown|refused>` (the last one's outcome), for what is in the outbox and was tried; expires. */
  readonly sending: string;
  /** Stream of dead replies, field `r` (JSON of a `DeadReply`); capped, expires. */
  readonly deadReplies: string;
  /** Stream of session events, field `e` (JSON); capped, expires. */
  readonly events: string;
}

/** Written and waited for, so that what was written before it is on a replica or on the disk; expires. */
export function barrierKey(messageId: string): string {
  return `${messageKey(messageId)}:barrier`;
}

export function sessionKeys(sessionId: string): SessionKeys {
  const key = (name: string) => `longshore:{${sessionId}}:${name}`;
  return {
    mailbox: key("mailbox"),
    context: key("context"),
    session: key("session"),
    lease: key("lease"),
    outbox: key("outbox"),
    replies: key("replies"),
    delivered: key("delivered"),
    sending: key("sending"),
    deadReplies: key("deadReplies"),
    events: key("events"),
  };
}

/** The record of a message: a hash, and the idempotency key. Throws a `RangeError` for what is no message id. */
export function messageKey(messageId: string): string {
  const sessionId = sessionOfMessageId(messageId);
  if (sessionId === undefined) throw new RangeError("not a message id");
  return `longshore:{${sessionId}}:message:${messageId.slice(sessionId.length + 1)}`;
}

/** All shards of the pending index: sorted sets of session ids by the time of their last accept, in ms. */
export function pendingShards(): readonly string[] {
  return Array.from({ length: PENDING_SHARDS }, (_, shard) => pendingShard(shard));
}

function pendingShard(shard: number): string {
  return `longshore:{pending:${String(shard).padStart(2, "0")}}`;
}

export function pendingKey(sessionId: string): string {
  return pendingShard(hash("sha256", sessionId, "buffer").readUInt16BE(0) % PENDING_SHARDS);
}

/** Keys of the whole fleet. */
export const fleetKeys = {
  /** The random bytes with which links to artifacts are signed. */
  artifactLinks: "longshore:{fleet}:artifact-links",
  /** List of ids of ended messages, oldest first: see `EndedRecords`. */
  ended: "longshore:{fleet}:ended",
  /** The dispatcher that collects garbage now; expires. */
  collecting: "longshore:{fleet}:collecting",
  /** Present until the next collection of garbage is due; expires. */
  collected: "longshore:{fleet}:collected",
  /** Sorted set of ids of workers by when they were heard of last, in ms. */
  workers: "longshore:{fleet}:workers",
  /** Hash: time, base, rebasedAt, `next:<tenant>`: see `TurnOrder`. */
  turnOrder: "longshore:{fleet}:turn-order",
} as const;

/** Sorted set of a tenant's session ids by last activity in ms: a convenience, rebuilt from the object store. */
export function tenantSessionsKey(tenant: string): string {
  return `longshore:{tenant:${tenant}}:sessions`;
}

export interface DeadLetterKeys {
  /** Sorted set of ids of dead letters and dead replies by when they died in ms; capped. */
  readonly list: string;
  /** Hash of those ids to what the list shows of them (JSON). */
  readonly summaries: string;
}

/** A tenant's dead letters: a convenience, rebuilt from the object store. */
export function deadLetterKeys(tenant: string): DeadLetterKeys {
  const list = `longshore:{tenant:${tenant}}:deadLetters`;
  return { list, summaries: `${list}:summaries` };
}

/** Sorted set of ids of a tenant's messages that wait for their `notBefore`, by that time in ms: only to count them. */
export function waitingMessagesKey(tenant: string): string {
  return `longshore:{tenant:${tenant}}:waiting`;
}

/** Hash of the ids of a tenant's schedules to what they are (JSON of a `Schedule`). */
export function schedulesKey(tenant: string): string {
  return `longshore:{tenant:${tenant}}:schedules`;
}

/** Keys of a tenant, beside the list of its sessions; they share its tag. */
export interface TenantKeys {
  /** Hash of messages by second of the last minute, with `total` and `from`; expires. */
  readonly messageRate: string;
  /** Bytes in the object store: see `StoredBytes`. */
  readonly storedBytes: string;
  /** Sorted set of jobs of `inbound` that wait for the tenant's rate, in their order. */
  readonly throttledJobs: string;
  /** Set of the names of gates where sessions wait: see `TurnGates`. */
  readonly gatesWaiting: string;
}

export function tenantKeys(tenant: string): TenantKeys {
  const key = (name: string) => `longshore:{tenant:${tenant}}:${name}`;
  return {
    messageRate: key("messageRate"),
    storedBytes: key("storedBytes"),
    throttledJobs: key("throttledJobs"),
    gatesWaiting: key("gatesWaiting"),
  };
}

/** What a worker says of itself (JSON of a `WorkerReport`); expires. */
export function workerReportKey(workerId: string): string {
  return `${fleetKeys.workers}:${workerId}`;
}

/** Keys of a gate of a tenant's turns: permits by when they expire, and waiting sessions by the age of their message. */
export function gateKeys(
  tenant: string,
  gate: string,
): { readonly inside: string; readonly waiting: string } {
  const key = (name: string) => `longshore:{tenant:${tenant}}:gate:${gate}:${name}`;
  return { inside: key("inside"), waiting: key("waiting") };
}

/**
 * Keys of a volume: a hash (nonce, until: who writes it; epoch), and the sorted set of the sessions that wait for
 * it, by when they asked last in ms.
 */
export function volumeKeys(
  tenant: string,
  volume: string,
): { readonly lease: string; readonly waiting: string } {
  const key = (name: string) => `longshore:{volume:${tenant}/${volume}}:${name}`;
  return { lease: key("lease"), waiting: key("waiting") };
}

/** Set of ids of a user's messages of a day; expires. */
export function userDayKey(tenant: string, user: string, day: string): string {
  return `longshore:{tenant:${tenant}}:user:${user}:${day}`;
}

/** Where a worker listens for hints that a session it holds has a new message (payload: the session's id). */
export function workerChannel(workerId: string): string {
  return `longshore:worker:${workerId}`;
}

/** Where it is said that a session's events grew (payload: empty); the stream itself is what counts. */
export function eventsChannel(sessionId: string): string {
  return `longshore:events:${sessionId}`;
}
