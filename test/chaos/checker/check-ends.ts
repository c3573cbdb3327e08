import { happened, plannedOf, type SessionHistory } from "../history.ts";
import { isPoison, type PlannedMessage } from "../planned-message.ts";
import type { Check, Violation } from "./violation.ts";

/**
 * Every accepted message is answered, a dead letter or cancelled, exactly one of the three (I2); what is no poison is
 * never a dead letter (I10); what nobody cancelled is not cancelled; nothing ends that nobody sent; what is too large is
 * refused, and nothing else; and Redis says of a message what its commit says. Of context less is promised: it may be told
 * twice, or be forgotten, where Redis lost what it held.
 */
export const checkEnds: Check = (history) => {
  const violations: Violation[] = [];
  const { sessions, incidents, unfinished } = history;
  const mayForget = incidents.some(({ effects }) => effects.includes("redis-lost"));
  for (const session of sessions) {
    const { conversation, messages, generations, records, waiting, undelivered } = session;
    const report = (what: string) => violations.push({ check: "ends", conversation, what });
    const outcomes = new Map<string, string[]>();
    for (const { note, commit } of generations) {
      for (const { message, outcome, error } of note.ends) {
        const known = outcomes.get(message.id) ?? [];
        outcomes.set(message.id, [...known, `${outcome} in generation ${commit.generation}`]);
        const planned = plannedOf(session, message);
        if (planned === undefined) report(`generation ${commit.generation} ends a message that nobody sent`);
        else if (!mayEnd(session, planned, message.id, outcome))
          report(`${planned.id} (${planned.kind}) is ${outcome} ${JSON.stringify(error ?? {})}`);
        const record = records.get(message.id);
        if (record === undefined ? !mayForget : record.state !== outcome)
          report(`${planned?.id} is ${outcome}, and its record says ${record?.state ?? "nothing"}`);
      }
    }
    for (const { planned, acceptances, refusal } of messages) {
      if (refusal !== undefined && planned.kind !== "oversized")
        report(`${planned.id} was refused: ${refusal}`);
      if (refusal === undefined && planned.kind === "oversized") report(`${planned.id} was not refused`);
      const ids = new Set(acceptances.map(({ messageId }) => messageId));
      if (ids.size > 1) report(`${planned.id} was given ${ids.size} ids`);
      for (const id of ids) {
        const ends = outcomes.get(id) ?? [];
        const isForgettable = planned.kind === "context" && mayForget;
        if (ends.length === 0 && !isForgettable) report(`${planned.id} was accepted and no commit ends it`);
        if (ends.length > 1 && !isForgettable)
          report(`${planned.id} ended ${ends.length} times: ${ends.join(", ")}`);
      }
      const [first, ...others] = acceptances.filter(({ seq }) => seq !== null);
      for (const { seq, duplicate, at } of others) {
        if (first === undefined || happened(history, ["redis-lost"], first.at, at)) continue;
        if (!duplicate && !first.duplicate) report(`${planned.id} was accepted twice as a new message`);
        if (seq !== first.seq) report(`${planned.id} has the numbers ${first.seq} and ${seq}`);
      }
    }
    if (waiting > 0) report(`${waiting} messages are left in the mailbox`);
    if (undelivered > 0) report(`${undelivered} replies are left in the outbox`);
  }
  for (const what of unfinished) violations.push({ check: "ends", what: `not over in time: ${what}` });
  return violations;
};

function mayEnd(
  { mayBeCancelled }: SessionHistory,
  { kind }: PlannedMessage,
  messageId: string,
  outcome: "answered" | "dead" | "cancelled",
): boolean {
  if (outcome === "cancelled") return mayBeCancelled(messageId);
  return isPoison(kind) === (outcome === "dead");
}
