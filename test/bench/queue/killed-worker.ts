import { join } from "node:path";
import type { Measurement } from "../row.ts";
import { SleepingFleet } from "./sleeping-fleet.ts";

const SESSIONS = 50;
const LEASE_SECONDS = 15;
/** Longer than the measurement takes. */
const TURN_SECONDS = 300;
/** How long the sessions may take to get their prompts, before and after, in ms. */
const PROMPTS_WITHIN_MS = 120_000;

/** How long the sessions of a worker that is killed in the middle of their turns wait until all were prompted again. */
export async function* measureKilledWorker(rootfs: string, directory: string): AsyncGenerator<Measurement> {
  await using fleet = await SleepingFleet.start({
    ...{ directory: join(directory, "killed"), rootfs, turnSeconds: TURN_SECONDS },
    ...{ places: SESSIONS, leaseSeconds: LEASE_SECONDS },
  });
  await fleet.startWorkers(1);
  await fleet.send(SESSIONS, SESSIONS);
  await fleet.reached("prompt sent", SESSIONS, PROMPTS_WITHIN_MS);
  const killed = fleet.workers.splice(0);
  await fleet.startWorkers(1);
  const killedAt = Date.now();
  for (const worker of killed) await worker.kill();
  await fleet.reached("prompt sent", SESSIONS, PROMPTS_WITHIN_MS);
  const last = (await fleet.timesOf("prompt sent"))[SESSIONS - 1] ?? Number.NaN;
  yield {
    work: `worker killed: all of its ${SESSIONS} sessions prompted again by another`,
    unit: "s",
    ours: (last - killedAt) / 1_000,
    peer: null,
    target: { of: "ours", atMost: LEASE_SECONDS + 5 },
  };
}
