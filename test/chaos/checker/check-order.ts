import type { SentMessage } from "../history.ts";
import type { Check, Violation } from "./violation.ts";

/**
 * Messages end in the order in which they were accepted (I1). One that Redis forgot, restored from an older copy, and
 * that was sent again has more than one number: any of them may be its place.
 */
export const checkOrder: Check = ({ sessions }) => {
  const violations: Violation[] = [];
  for (const { conversation, messages, generations } of sessions) {
    const byId = new Map<string, SentMessage>();
    for (const sent of messages) for (const { messageId } of sent.acceptances) byId.set(messageId, sent);
    /** The smallest of the largest numbers from here to the end of the log, and whose it is. */
    let limit = { seq: Number.POSITIVE_INFINITY, id: "" };
    for (const { note } of generations.toReversed()) {
      for (const { message } of note.ends.toReversed()) {
        const sent = byId.get(message.id);
        if (sent === undefined) continue;
        const numbers = sent.acceptances.map(({ seq }) => seq);
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
  }
  return violations;
};
