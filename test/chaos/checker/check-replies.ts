import { deriveReplyId } from "@longshore/shared";
import { happened, type ReplyCall } from "../history.ts";
import type { Check, Violation } from "./violation.ts";

/** A call and its record are not one step: what happened shortly before or after it may be the reason for another. */
const MARGIN_MS = 12_000;

/**
 * Replies leave only after the commit that holds them, in order, each under one key, which is delivered at least once;
 * and more than once only where something happened that made its outcome unknown (I6).
 */
export const checkReplies: Check = (history) => {
  const { sessions, strayCalls } = history;
  const violations: Violation[] = [];
  for (const { conversation, sessionId, generations, calls } of sessions) {
    const report = (what: string) => violations.push({ check: "replies", conversation, what });
    const committed = new Map<string, { readonly place: number; readonly text: string }>();
    for (const { commit, note } of generations) {
      for (const { index, text } of note.replies) {
        const id = deriveReplyId(sessionId, commit.id, index);
        committed.set(id, { place: committed.size, text });
      }
    }
    const taken = new Map<string, ReplyCall>();
    for (const call of calls) {
      const reply = committed.get(call.key);
      if (reply === undefined) report(`a reply was sent that no commit holds: ${JSON.stringify(call)}`);
      else if (reply.text !== call.text) report(`reply ${call.key} was sent with another text`);
      if (call.status !== 200) continue;
      const first = taken.get(call.key);
      if (first === undefined) taken.set(call.key, call);
      else {
        const reasons = ["dispatcher-gone", "redis-away", "redis-lost", "receiver-failed"] as const;
        if (!happened(history, reasons, first.at - MARGIN_MS, call.at + MARGIN_MS))
          report(`reply ${call.key} was delivered again for no reason`);
      }
    }
    const places = [...taken.keys()].flatMap((key) => committed.get(key)?.place ?? []);
    for (const [at, place] of places.entries()) {
      if (at > 0 && place < (places[at - 1] as number))
        report(`reply ${place + 1} of the log was delivered after reply ${(places[at - 1] as number) + 1}`);
    }
    for (const [key, { text }] of committed) {
      if (!taken.has(key)) report(`reply ${key} was not delivered: ${JSON.stringify(text)}`);
    }
  }
  for (const call of strayCalls)
    violations.push({ check: "replies", what: `a reply of an unknown session: ${JSON.stringify(call)}` });
  return violations;
};
