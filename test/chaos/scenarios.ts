import type { PlannedFault } from "./faults/fault.ts";
import type { Lane } from "./plan.ts";
import type { ChaosOptions } from "./run-chaos.ts";

/** Long enough for all faults of a scenario; it ends when they are done. */
const LIMIT_MS = 60_000;
/** For a fleet that is broken on purpose, and may never come to rest. */
const FINISH_LIMIT_MS = 25_000;

/** A short schedule for one kind of breakage. */
export type Scenario = Omit<ChaosOptions, "seed" | "report">;

/** Faults one after another, each on the next seat. */
function lane(...kinds: readonly string[]): Lane {
  return kinds.map((kind, at): PlannedFault => ({ kind, seat: at, pauseMs: 500, seed: `${kind}/${at}` }));
}

function scenario(lanes: readonly Lane[], more: Partial<Scenario> = {}): Scenario {
  return {
    durationMs: LIMIT_MS,
    finishLimitMs: FINISH_LIMIT_MS,
    workers: 2,
    sessions: { bwrap: 5, docker: 0 },
    lanes: () => lanes,
    ...more,
  };
}

const commitKills = ["kill: commit: before it", "kill: commit: answer lost", "kill: publication: before it"];

/** By name: which of them shows a mutant, its patch says. */
export const scenarios: ReadonlyMap<string, Scenario> = new Map([
  ["talk", scenario([lane("roll dispatcher")])],
  ["busy", scenario([lane("roll dispatcher")], { sessions: { bwrap: 1, docker: 0, busy: 2 } })],
  ["kills", scenario([lane(...commitKills, ...commitKills)])],
  [
    "volumes",
    scenario([lane(...commitKills, "kill: prompting")], { sessions: { bwrap: 0, docker: 0, shared: 3 } }),
  ],
  ["stops", scenario([lane("stop worker", "delay commit", "delay commit")])],
  [
    "restores",
    // What was said is on its way when Redis forgets it.
    scenario([
      lane("restore redis", "restore redis", "restore redis"),
      lane("harm receiver", "harm receiver", "harm receiver", "harm receiver", "harm receiver"),
    ]),
  ],
  ["wakes", scenario([lane("add wakes", "add wakes", "add wakes", "add wakes", "add wakes")])],
  [
    "lost wakes",
    // Any message wakes again what was lost, but that which is refused.
    scenario([lane("obliterate wakes", "kill: prompting", "obliterate wakes", "kill: prompting")], {
      sessions: { bwrap: 2, docker: 0, busy: 1 },
    }),
  ],
  ["deadly", scenario([lane("roll dispatcher")], { hasDeadlyMessage: true, finishLimitMs: 60_000 })],
  // Fewer than a message may fail: the same one may be hit each time.
  ["sandboxes", scenario([lane(...Array.from({ length: 3 }, () => "kill sandbox"))])],
  [
    "content",
    scenario([lane("kill: prompting", "refuse content", "kill: prompting", "refuse content")], {
      // Nothing that was stored is at hand.
      worker: { chunkCache: "0B" },
    }),
  ],
]);
