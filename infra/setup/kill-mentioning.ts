import { asRoot, isRoot } from "./privilege.ts";
import { processesMentioning } from "./process-table.ts";
import { capture } from "./run-command.ts";
import { waitUntil } from "./wait-until.ts";

/**
 * Kills the processes whose command line holds a path that only they are told, and waits until they are
 * gone: services that were started by a process that is gone, whose ids nobody knows any more.
 */
export async function killMentioning(path: string): Promise<void> {
  await waitUntil(
    async () => {
      // Again each time: one of them may have started another.
      const pids = await processesMentioning(path);
      await kill(pids);
      return pids.length === 0;
    },
    { what: `the processes of ${path} to end`, timeoutMs: 30_000, intervalMs: 50 },
  );
}

/** Kills processes; that one of them is gone already is fine. */
export async function kill(pids: readonly number[]): Promise<void> {
  for (const pid of pids) {
    if (isRoot()) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It ended meanwhile.
      }
    } else {
      await capture(asRoot(["kill", "-s", "KILL", String(pid)]));
    }
  }
}
