import type { ChaosFleet } from "../chaos-fleet.ts";
import { meet, type Phase } from "../phases.ts";
import type { Seat } from "../seat.ts";
import type { Fault } from "./fault.ts";

/** How long a process may take to come to a phase: the fleet may be busy elsewhere. */
const MEET_LIMIT_MS = 4_000;
/** From a worker to the other one that the same lane of faults has for its own. */
const OTHER_SEAT = 2;

/**
 * SIGKILL in a phase, and a new process in the place of the dead one. Where a process does not come to it in time, the
 * other one of the lane is waited for.
 */
export function killIn(phase: Phase): Fault {
  return async (fleet, number) => {
    const seats = phase.app === "worker" ? fleet.workers : fleet.dispatchers;
    for (const at of [number, number + OTHER_SEAT]) {
      if (await killAt(fleet, seats[at % seats.length] as Seat, phase)) return true;
    }
    return false;
  };
}

async function killAt(fleet: ChaosFleet, seat: Seat, phase: Phase): Promise<boolean> {
  return await seat.alone(async () => {
    if ((await meet(seat, phase, MEET_LIMIT_MS)) === undefined) {
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
}
