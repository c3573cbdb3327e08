import { happened } from "../history.ts";
import { isPoison } from "../planned-message.ts";
import type { Check, Violation } from "./violation.ts";

/**
 * Every accepted message is answered or a dead letter, exactly one of the two (I2); what is no poison is never a dead
 * letter (I10); nothing ends that nobody sent; what is too large is
 * refused, and nothing else; and Redis says of a message what its commit says.
 */
export const checkEnds: Check = (history) => {
  const violations: Violation[] = [];
  const { sessions, incidents, unfinished } = history;
  const mayForget = incidents.some(({ effects }) => effects.includes("redis-lost"));
  for (const { conversation, messages, generations, records, waiting, undelivered } of sessions) {
    const report = (what: string) => violations.push({ check: "ends", conversation, what });
    const outcomes = new Map<string, string[]>();
    for (const { note, commit } of generations) {
      for (const { message, outcome, error } of note.ends) {
        const known = outcomes.get(message.id) ?? [];
        outcomes.set(message.id, [...known, `${outcome} in generation ${commit.generation}`]);
        const sent = messages.find(({ acceptances }) =>
          acceptances.some(({ messageId }) => messageId === message.id),
        );
        // The sender's own text tells a message apart whose 202 was lost.
        const planned =
          sent?.planned ?? messages.find(({ planned: { text } }) => text === message.text)?.planned;
        if (planned === undefined) report(`generation ${commit.generation} ends a message that nobody sent`);
        else if (isPoison(planned.kind) !== (outcome === "dead"))
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
        if (ends.length === 0) report(`${planned.id} was accepted and no commit ends it`);
        if (ends.length > 1) report(`${planned.id} ended ${ends.length} times: ${ends.join(", ")}`);
      }
      const [first] = acceptances;
      for (const { seq, duplicate, at } of acceptances.slice(1)) {
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
