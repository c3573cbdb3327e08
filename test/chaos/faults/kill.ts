import { meet, type Phase } from "../phases.ts";
import type { Fault } from "./fault.ts";

/** How long a process may take to come to a phase: the fleet may be busy elsewhere. */
const MEET_LIMIT_MS = 6_000;

/** SIGKILL in a phase, and a new process in the place of the dead one. */
export function killIn(phase: Phase): Fault {
  return async (fleet, number) => {
    const seats = phase.app === "worker" ? fleet.workers : fleet.dispatchers;
    const seat = seats[number % seats.length];
    if (seat === undefined) return false;
    return await seat.alone(async () => {
      const isMet = (await meet(seat, phase, MEET_LIMIT_MS)) !== undefined;
      if (!isMet) {
        // It drains, or something else has killed it: in any case it is not there for long.
        if (seat.ready === undefined) await seat.restart();
        return false;
      }
      const effects = phase.app === "dispatcher" ? (["dispatcher-gone"] as const) : [];
      const over = fleet.begin(`kill: ${phase.name}`, seat.name, effects);
      await seat.restart();
      over();
      return true;
    });
  };
}
