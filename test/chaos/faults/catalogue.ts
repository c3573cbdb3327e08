import { phases } from "../phases.ts";
import type { Fault } from "./fault.ts";
import { killIn } from "./kill.ts";
import {
  addWakes,
  failOverRedis,
  killClients,
  killRedis,
  loseWakes,
  obliterateWakes,
  pauseRedis,
  restartRedis,
  restoreRedis,
} from "./redis.ts";
import { blockEventLoop, delayCommit, stopDispatcher, stopWorker } from "./stop.ts";
import {
  harmReceiver,
  harmStore,
  killSandbox,
  refuseContent,
  rollDispatcher,
  rollWorker,
} from "./surroundings.ts";

/** What else than kills is done to a fleet, by name. */
const others: Readonly<Record<string, Fault>> = {
  "stop worker": stopWorker,
  "stop dispatcher": stopDispatcher,
  "block event loop": blockEventLoop,
  "delay commit": delayCommit,
  "restart redis": restartRedis,
  "kill redis": killRedis,
  "restore redis": restoreRedis,
  "fail over redis": failOverRedis,
  "pause redis": pauseRedis,
  "kill clients": killClients,
  "add wakes": addWakes,
  "lose wakes": loseWakes,
  "obliterate wakes": obliterateWakes,
  "harm store": harmStore,
  "refuse content": refuseContent,
  "harm receiver": harmReceiver,
  "kill sandbox": killSandbox,
  "roll worker": rollWorker,
  "roll dispatcher": rollDispatcher,
};

export const otherFaults: readonly string[] = Object.keys(others);

export function faultNamed(kind: string): Fault {
  const phase = phases.find(({ name }) => kind === killKind(name));
  const fault = phase === undefined ? others[kind] : killIn(phase);
  if (fault === undefined) throw new Error(`no fault "${kind}"`);
  return fault;
}

export function killKind(phase: string): string {
  return `kill: ${phase}`;
}
