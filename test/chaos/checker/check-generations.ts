import { parseAnswer } from "../planned-message.ts";
import type { Check, Violation } from "./violation.ts";

const NO_BLOB = "4294967295 0";

/**
 * Generations have no gap, each builds on the one before and can be restored (I3, I4); the counter in each of them is
 * the number of turns committed so far, and what a turn says of the files it found is what the turns before it left.
 */
export const checkGenerations: Check = ({ sessions }) => {
  const violations: Violation[] = [];
  for (const { conversation, messages, generations } of sessions) {
    const report = (what: string) => violations.push({ check: "generations", conversation, what });
    const kinds = new Map(messages.map(({ planned }) => [planned.id, planned.kind]));
    let turns = 0;
    let blob = NO_BLOB;
    for (const [index, { commit, note, counter, error }] of generations.entries()) {
      const { generation, parent, partial } = commit;
      if (generation !== index + 1) report(`generation ${generation} stands where ${index + 1} should`);
      if (parent !== generation - 1) report(`generation ${generation} builds on ${parent}`);
      if (error !== undefined) report(`generation ${generation} can't be restored: ${error}`);
      for (const { outcome } of note.ends) if (outcome === "answered") turns++;
      if (error === undefined && !partial && counter !== turns)
        report(`the counter of generation ${generation} is ${counter} after ${turns} turns`);
      for (const { kind, text } of note.replies) {
        if (kind !== "answer") continue;
        const answer = parseAnswer(text);
        if (answer === undefined) report(`generation ${generation} answers ${JSON.stringify(text)}`);
        else {
          if (answer.turn !== turns) report(`${answer.id} was turn ${answer.turn}, and should be ${turns}`);
          if (kinds.get(answer.id) !== "blob" && answer.blob !== blob)
            report(`${answer.id} found the file ${answer.blob}, and ${blob} was committed`);
          blob = answer.blob;
        }
      }
    }
  }
  return violations;
};
