import { join } from "node:path";
import type { Measurement } from "../row.ts";
import { ProcessorTime } from "./processor-time.ts";
import { SleepingFleet } from "./sleeping-fleet.ts";

const SESSIONS = 50;
const MESSAGES = 500;
const ANSWERED_WITHIN_MS = 300_000;

/**
 * Messages a second through a whole fleet of processes: sandboxes in bubblewrap, commits in a `file://` store; with an
 * agent in each session's sandbox, and with a command, and a sandbox, for each turn.
 */
export async function* measureBwrapRate(rootfs: string, directory: string): AsyncGenerator<Measurement> {
  for (const contract of ["acp", "exec"] as const) {
    await using fleet = await SleepingFleet.start({
      ...{
        directory: join(directory, `bwrap-${contract}`),
        rootfs,
        contract,
        turnSeconds: 0,
        places: SESSIONS,
      },
    });
    await fleet.startWorkers(1);
    const processors = new ProcessorTime();
    const start = Date.now();
    await fleet.send(MESSAGES, SESSIONS);
    await fleet.reached("turn answered", MESSAGES, ANSWERED_WITHIN_MS);
    const busy = processors.busy();
    const last = (await fleet.timesOf("turn answered")).at(-1) ?? Number.NaN;
    const unmeasured = { peer: null } as const;
    yield {
      work: `accept and answer over HTTP, ${contract} in bwrap, file://, ${SESSIONS} sessions`,
      ...unmeasured,
      ...{ unit: "messages/s", ours: MESSAGES / ((last - start) / 1_000) },
    };
    yield { work: "  the same: processors busy", unit: "%", ours: busy * 100, ...unmeasured };
  }
}
