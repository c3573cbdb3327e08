import type { Check, Violation } from "./violation.ts";

/** No process ends by itself, whatever happens around it, and nothing of a sandbox outlives the fleet (I9). */
export const checkProcesses: Check = ({ processes, leftovers }) => [
  ...processes
    .filter(({ endedByItself }) => endedByItself)
    .map(
      ({ name, stderr }): Violation => ({ check: "processes", what: `${name} ended by itself: ${stderr}` }),
    ),
  ...leftovers.map((what): Violation => ({ check: "processes", what: `left behind: ${what}` })),
];
