import { asRoot, isRoot } from "./privilege.ts";
import { processesMentioning } from "./process-table.ts";
import { capture } from "./run-command.ts";
import { waitUntil } from "./wait-until.ts";

/**
 * Kills the processes whose command line holds a path that only they are told, and waits until they are
 * gone: services that were started by a process that is gone, whose ids nobody knows any more.
 */
export async function killMentioning(path: string): Promise<void> {
  await killAll(() => processesMentioning(path), `the processes of ${path} to end`);
}

/**
 * Kills processes and waits until none of them is found any more, up to 30 s.
 *
 * @param find The ids of those that are left. It is asked again each time: one may have started another.
 * @param what What is waited for, as in `waitUntil`.
 * @throws {SetupError} `SETUP_SERVICE_FAILED` when some stay.
 */
export async function killAll(find: () => Promise<readonly number[]>, what: string): Promise<void> {
  await waitUntil(
    async () => {
      const pids = await find();
      await kill(pids);
      return pids.length === 0;
    },
    { what, timeoutMs: 30_000, intervalMs: 50 },
  );
}

/** Kills processes; that one of them is gone already is fine. */
async function kill(pids: readonly number[]): Promise<void> {
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
