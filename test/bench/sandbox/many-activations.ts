import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { waitUntil } from "../../../infra/setup/wait-until.ts";
import { SleepingFleet } from "../queue/sleeping-fleet.ts";
import type { Measurement } from "../row.ts";

const ACTIVATIONS = 500;
/** Told from every other `sleep` of the machine; longer than all of them take to start. */
const TURN_SECONDS = 2_501;
const STARTED_WITHIN_MS = 280_000;
const LOOK_MS = 500;
const MB = 1e6;

/** So many activations at once on one worker, each with a command that sleeps in a sandbox of its own. */
export async function* measureManyActivations(
  directory: string,
  rootfs: string,
): AsyncGenerator<Measurement> {
  await using fleet = await SleepingFleet.start({
    ...{ directory: join(directory, "many"), rootfs, contract: "exec", leaseSeconds: 60 },
    ...{ turnSeconds: TURN_SECONDS, places: ACTIVATIONS },
  });
  await fleet.startWorkers(1);
  const start = performance.now();
  await fleet.send(ACTIVATIONS, ACTIVATIONS);
  await waitUntil(async () => (await countSleepers()) >= ACTIVATIONS, {
    ...{ what: `${ACTIVATIONS} sleeping agents`, timeoutMs: STARTED_WITHIN_MS, intervalMs: LOOK_MS },
  });
  const seconds = (performance.now() - start) / 1_000;
  const worker = fleet.workers[0]?.pid ?? 0;
  yield {
    work: "activations side by side, exec in bwrap",
    unit: "sessions",
    ours: await countSleepers(),
    peer: null,
    target: { of: "ours", atLeast: ACTIVATIONS },
  };
  yield { work: "  until all of them run", unit: "s", ours: seconds, peer: null };
  yield {
    work: "  the worker's memory, at most",
    unit: "MB",
    ours: (await peakBytes(worker)) / MB,
    peer: null,
    target: { of: "ours", atMost: 400 },
  };
}

/** Programs of the agents that run at this moment. */
async function countSleepers(): Promise<number> {
  const wanted = `sleep\0${TURN_SECONDS}\0`;
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/cmdline`, "latin1").catch(() => "")),
  );
  return lines.filter((line) => line === wanted).length;
}

async function peakBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}
