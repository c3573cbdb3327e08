import { spawn } from "node:child_process";
import type { Socket } from "node:net";

/** Waits for the end of its input, which comes with the worker's death, then thaws every group of a prefix. */
const SCRIPT = `
  trap '' HUP INT TERM
  read -r _
  for state in "$1/$2"*/freezer.state; do echo THAWED > "$state"; done`;

export interface ThawGuard {
  /** A POSIX shell. */
  readonly shell: string;
  /** Directory of the sandboxes' groups in the freezer's hierarchy. */
  readonly groups: string;
  /** What the names of the worker's groups begin with. */
  readonly prefix: string;
}

/**
 * Starts a process that thaws a worker's sandboxes when the worker dies, whatever kills it. bubblewrap dies
 * with its parent by a signal, but a process that is frozen by cgroups of version 1 takes none: a lingering
 * sandbox would stay until a reaper comes, which may be never on a host whose last worker it was.
 */
export function startThawGuard({ shell, groups, prefix }: ThawGuard): void {
  const guard = spawn(shell, ["-c", SCRIPT, "longshore-thaw-guard", groups, prefix], {
    cwd: "/",
    env: {},
    stdio: ["pipe", "ignore", "ignore"],
    // What ends the worker's whole process group must not end the guard with it.
    detached: true,
  });
  // Without a guard the reaper does the same later.
  guard.on("error", () => undefined);
  guard.stdin.on("error", () => undefined);
  guard.unref();
  (guard.stdin as Socket).unref();
}
