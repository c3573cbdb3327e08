import { happened } from "../history.ts";
import type { Check, Violation } from "./violation.ts";

const LOST = "lost the session; what was not committed is dropped";
/** A worker may give a session up by its own clock, on a machine that is too busy to run it. */
const BY_OWN_CLOCK = "expired)";
/** A lease may be noticed as lost only when the process gets to it. */
const NOTICE_MS = 10_000;

/**
 * One activation at a time (I5): epochs never fall and belong to one activation each, an activation's commits are not
 * interrupted by another's, none loses a lease that nothing has cost it, and none commits once another has begun. Who opens a
 * volume ends what its last writer may still commit: by a takeover record under that one's epoch, below that of the next.
 */
export const checkActivations: Check = (history) => {
  const { sessions, processes, lateCommits, leaseMs } = history;
  const violations: Violation[] = [];
  for (const { conversation, sessionId, generations, hasVolume } of sessions) {
    const report = (what: string) => violations.push({ check: "activations", conversation, what });
    const over = new Set<string>();
    const ownerOf = new Map<number, string>();
    let last: { readonly nonce: string; readonly epoch: number } | undefined;
    for (const { commit } of generations) {
      const { generation, nonce, epoch, kind } = commit;
      if (hasVolume && kind === "takeover" && epoch === last?.epoch && nonce !== last.nonce) {
        over.add(last.nonce);
        continue;
      }
      if (last !== undefined && epoch < last.epoch)
        report(`generation ${generation} has epoch ${epoch} after ${last.epoch}`);
      if (last !== undefined && nonce !== last.nonce) over.add(last.nonce);
      if (over.has(nonce)) report(`generation ${generation} is of an activation that another had followed`);
      if ((ownerOf.get(epoch) ?? nonce) !== nonce) report(`epoch ${epoch} is that of two activations`);
      ownerOf.set(epoch, nonce);
      last = { nonce, epoch };
    }
    for (const { generation, worker } of lateCommits.filter((late) => late.sessionId === sessionId)) {
      const standing = generations.find(({ commit }) => commit.generation === generation)?.commit;
      if (standing?.worker === worker)
        report(`generation ${generation} is of ${worker}, whose session another had begun to serve`);
    }
  }
  for (const { name, lines } of processes) {
    const seat = name.split("#")[0];
    for (const { at, line } of lines) {
      if (line.msg !== LOST || JSON.stringify(line.err ?? "").includes(BY_OWN_CLOCK)) continue;
      const from = at - leaseMs - NOTICE_MS;
      const explained =
        happened(history, ["worker-stopped"], from, at, seat) ||
        happened(history, ["redis-away", "redis-lost", "jobs-lost"], from, at);
      if (!explained)
        violations.push({
          check: "activations",
          what: `${name} lost a session for no reason: ${JSON.stringify(line)}`,
        });
    }
  }
  return violations;
};
