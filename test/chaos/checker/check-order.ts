import { happened, type SentMessage, type SessionHistory } from "../history.ts";
import type { PlannedMessage } from "../planned-message.ts";
import type { Check, Violation } from "./violation.ts";

/**
 * Messages end in the order in which they were accepted (I1). One that Redis forgot, restored from an older copy, and
 * that was sent again has more than one number: any of them may be its place. What one sender adds to a queue keeps its
 * order, too. Context is told before the message that wakes, and has no place of its own. Where the agent refuses what
 * comes while it is at work, no message was accepted before the one before it had ended.
 */
export const checkOrder: Check = (history) => {
  const violations: Violation[] = [];
  for (const { conversation, messages, generations, records, refuses } of history.sessions) {
    const byId = new Map<string, SentMessage>();
    for (const sent of messages) {
      if (sent.planned.kind === "context") continue;
      for (const { messageId } of sent.acceptances) byId.set(messageId, sent);
    }
    /** The smallest of the largest numbers from here to the end of the log, and whose it is. */
    let limit = { seq: Number.POSITIVE_INFINITY, id: "" };
    for (const { note } of generations.toReversed()) {
      for (const { message } of note.ends.toReversed()) {
        const sent = byId.get(message.id);
        if (sent === undefined) continue;
        const numbers = sent.acceptances.map(({ seq }) => seq).filter((seq) => seq !== null);
        // Where a queue had it first, its place may be one that its sender was not told.
        if (numbers.length < sent.acceptances.length || numbers.length === 0) continue;
        if (Math.min(...numbers) > limit.seq)
          violations.push({
            check: "order",
            conversation,
            what: `${sent.planned.id} ended before ${limit.id}, which was accepted before it`,
          });
        const largest = Math.max(...numbers);
        if (largest < limit.seq) limit = { seq: largest, id: sent.planned.id };
      }
    }
    const ended = generations
      .flatMap(({ note }) => note.ends.map(({ message }) => byId.get(message.id)))
      .filter((sent) => sent !== undefined);
    for (const [at, sent] of ended.entries()) {
      const before = ended[at - 1];
      if (!refuses || before === undefined || sent.planned.kind === "later") continue;
      const acceptedAt = recordOf(sent, records)?.acceptedAt ?? Number.POSITIVE_INFINITY;
      const endedAt = recordOf(before, records)?.endedAt ?? 0;
      if (acceptedAt < endedAt && !happened(history, ["redis-lost"], before.sentAt, endedAt))
        violations.push({
          check: "order",
          conversation,
          what: `${sent.planned.id} was accepted while ${before.planned.id} was unanswered`,
        });
    }
    const queued = ended.filter(({ planned, acceptances }) => isQueuedOnce(planned, acceptances));
    for (const [at, sent] of queued.entries()) {
      const before = queued[at - 1];
      if (before !== undefined && sent.sentAt < before.sentAt)
        violations.push({
          check: "order",
          conversation,
          what: `${sent.planned.id} ended after ${before.planned.id}, which was added to the queue after it`,
        });
    }
  }
  return violations;
};

function recordOf({ acceptances }: SentMessage, records: SessionHistory["records"]) {
  return records.get(acceptances[0]?.messageId ?? "");
}

/** Sent again, it has a second place, at the queue's end. */
function isQueuedOnce({ way, kind, isTwice }: PlannedMessage, acceptances: readonly unknown[]): boolean {
  return way === "inbound" && kind !== "later" && !isTwice && acceptances.length === 1;
}
