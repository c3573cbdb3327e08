import { join } from "node:path";
import { ScratchDirectory } from "../../infra/setup/scratch-directory.ts";
import { measureKilledWorker } from "./queue/killed-worker.ts";
import { ProcessorTime } from "./queue/processor-time.ts";
import { SleepingFleet } from "./queue/sleeping-fleet.ts";
import { required } from "./required.ts";
import type { Benchmark } from "./row.ts";

const TURN_SECONDS = 0.5;
/** Activations at once, of each worker process. */
const PLACES = 8;
/** Sessions for each place: one that ends finds the next waiting. */
const SESSIONS_A_PLACE = 3;
const MESSAGES_A_SESSION = 8;
const ANSWERED_WITHIN_MS = 600_000;
/** The part of all turns that is not counted at the beginning and at the end, while not all places are taken. */
const LEFT_OUT = 0.2;
/** From here on the machine, and not the fleet, is the limit. */
const SATURATED = 0.9;

/**
 * Agents that sleep for half a second in each turn, on one, two and four worker processes: turns a second beside what one
 * worker does times their number; and how soon the sessions of a killed worker go on.
 */
export const benchmark: Benchmark = async function* (wants) {
  await using scratch = await ScratchDirectory.create();
  const rootfs = required("LONGSHORE_TEST_ROOTFS", "scale");
  let one = 0;
  for (const workers of [1, 2, 4]) {
    // The others are measured beside the first.
    if (workers > 1 && !wants(String(workers))) continue;
    if (workers === 1 && !["1", "2", "4"].some(wants)) continue;
    const { rate, busy } = await measureTurns(workers, rootfs, join(scratch.path, `workers-${workers}`));
    if (workers === 1) one = rate;
    const isMachinesLimit = busy >= SATURATED;
    yield {
      work: `turns of ${TURN_SECONDS} s, ${workers} worker processes of ${PLACES} places${isMachinesLimit ? " (the machine's limit)" : ""}`,
      unit: "turns/s",
      ours: rate,
      peer: one * workers,
      peerCommand: "the rate of one worker process times their number",
      ...(isMachinesLimit ? {} : { target: { of: "ratio", atLeast: 0.95 } }),
    };
    yield { work: "  the same: processors busy", unit: "%", ours: busy * 100, peer: null };
  }
  if (wants("killed")) yield* measureKilledWorker(rootfs, scratch.path);
};

async function measureTurns(
  workers: number,
  rootfs: string,
  directory: string,
): Promise<{ readonly rate: number; readonly busy: number }> {
  const sessions = workers * PLACES * SESSIONS_A_PLACE;
  const messages = sessions * MESSAGES_A_SESSION;
  await using fleet = await SleepingFleet.start({
    ...{ directory, rootfs, turnSeconds: TURN_SECONDS, places: PLACES },
  });
  // All wait before the first worker takes one.
  await fleet.send(messages, sessions);
  await fleet.startWorkers(workers);
  const processors = new ProcessorTime();
  await fleet.reached("turn answered", messages, ANSWERED_WITHIN_MS);
  const busy = processors.busy();
  const times = await fleet.timesOf("turn answered");
  const first = Math.floor(messages * LEFT_OUT);
  const last = Math.floor(messages * (1 - LEFT_OUT));
  const seconds = ((times[last] ?? Number.NaN) - (times[first] ?? Number.NaN)) / 1_000;
  return { rate: (last - first) / seconds, busy };
}
