import type { History } from "../history.ts";
import { checkActivations } from "./check-activations.ts";
import { checkEnds } from "./check-ends.ts";
import { checkGenerations } from "./check-generations.ts";
import { checkOrder } from "./check-order.ts";
import { checkProcesses } from "./check-processes.ts";
import { checkReplies } from "./check-replies.ts";
import { checkVolume } from "./check-volume.ts";
import type { Violation } from "./violation.ts";

const checks = [
  ...[checkEnds, checkOrder, checkGenerations, checkVolume],
  ...[checkActivations, checkReplies, checkProcesses],
];

/** Everything that is wrong with a run. */
export function checkHistory(history: History): Violation[] {
  return checks.flatMap((check) => check(history));
}
