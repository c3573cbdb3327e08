import { plannedOf } from "../history.ts";
import { counts, parseAnswer, parseTold } from "../planned-message.ts";
import type { Check, Violation } from "./violation.ts";

const NO_BLOB = "4294967295 0";

/**
 * Generations have no gap, each builds on the one before and can be restored (I3, I4); the counter in each of them is
 * the number of turns committed so far, and what a turn says of the files it found is what the turns before it left. What
 * a turn did before it was cancelled stays, however far it came.
 */
export const checkGenerations: Check = ({ sessions }) => {
  const violations: Violation[] = [];
  for (const session of sessions) {
    const { conversation, messages, generations } = session;
    const report = (what: string) => violations.push({ check: "generations", conversation, what });
    const kinds = new Map(messages.map(({ planned }) => [planned.id, planned.kind]));
    let turns = 0;
    let blob: string | undefined = NO_BLOB;
    for (const [index, { commit, note, counter, error }] of generations.entries()) {
      const { generation, parent, partial } = commit;
      if (generation !== index + 1) report(`generation ${generation} stands where ${index + 1} should`);
      if (parent !== generation - 1) report(`generation ${generation} builds on ${parent}`);
      if (error !== undefined) report(`generation ${generation} can't be restored: ${error}`);
      let cut = 0;
      for (const { outcome, message } of note.ends) {
        const kind = plannedOf(session, message)?.kind;
        if (kind === undefined || !counts(kind)) continue;
        if (outcome === "answered") turns++;
        if (outcome !== "cancelled") continue;
        cut++;
        if (kind === "blob") blob = undefined;
      }
      if (error === undefined && !partial) {
        if (counter < turns || counter > turns + cut)
          report(`the counter of generation ${generation} is ${counter} after ${turns} turns`);
        turns = counter;
      }
      for (const { kind, text } of note.replies) {
        if (kind !== "answer") continue;
        // What a command prints is said as it comes, and once more when it is done.
        const said = [...new Set(text.trim().split("\n"))];
        const lines = said.filter((line) => parseTold(line) === undefined);
        for (const [at, line] of lines.entries()) {
          const answer = parseAnswer(line);
          if (answer === undefined) {
            report(`generation ${generation} answers ${JSON.stringify(line)}`);
            continue;
          }
          const turn = turns - (lines.length - 1 - at);
          if (answer.turn !== turn) report(`${answer.id} was turn ${answer.turn}, and should be ${turn}`);
          if (blob !== undefined && kinds.get(answer.id) !== "blob" && answer.blob !== blob)
            report(`${answer.id} found the file ${answer.blob}, and ${blob} was committed`);
          blob = answer.blob;
        }
      }
    }
  }
  return violations;
};
