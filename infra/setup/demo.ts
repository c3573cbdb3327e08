import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "./command.ts";
import { installPrograms } from "./debian-packages.ts";
import { DemoClient } from "./demo-client.ts";
import { SetupError } from "./errors.ts";
import type { FleetProcess } from "./fleet-process.ts";
import { LocalFleet } from "./local-fleet.ts";
import { describePhases, readPhaseTimes } from "./phase-times.ts";
import { sandboxAtHand } from "./sandbox-at-hand.ts";
import { ScratchDirectory } from "./scratch-directory.ts";

/** The time zone table, as the machines that have tzdata have it. */
const zoneTables = ["/usr/share/zoneinfo/tzdata.zi", "/usr/share/zoneinfo/zone1970.tab"];
/** Short, so that the demo need not wait long for a dead worker's session; the default is 15. */
const leaseSeconds = 4;

/** What the messages ask of the reference agent: text after `$` is a shell command. */
const countZones =
  '$ table=$(ls /session/inbox/*/*); echo "counting zones of $(basename $table)"; ' +
  `awk '$1 == "Z" {print $2} /^[A-Z][A-Z,]*\\t/ {print $3}' $table | grep / | cut -d/ -f1 | sort | uniq -c > zones.txt; cat zones.txt`;
const rankZones =
  "$ sort -rn zones.txt | head -3 > top.txt; echo 'most zones:'; cat top.txt; " +
  "awk '{all += $1} END {print all \" zones in all\"}' zones.txt";
const slowWork =
  '$ for step in 1 2 3 4 5; do echo "step $step of 5"; sleep 0.7; done; ' +
  'wc -l < zones.txt > regions.txt; echo "$(cat regions.txt) regions"';

/**
 * `npm run demo`: the main job on real parts and real input, with a worker killed in the middle of a turn.
 * Leaves nothing behind but caches.
 */
export const demo: Command = async (context) => {
  const began = performance.now();
  const heading = (text: string) =>
    console.log(`\n== ${text}  (${((performance.now() - began) / 1_000).toFixed(1)} s)`);

  heading("Set-up: Redis, a file:// object store, a dispatcher, one worker, a sandbox");
  await installPrograms(["setpriv", "redis-server"], context);
  const table = await findZoneTable();
  await using stack = new AsyncDisposableStack();
  const scratch = stack.use(await ScratchDirectory.create());
  const sandbox = await sandboxAtHand(context, scratch.path, stack);
  const directory = join(scratch.path, "fleet");
  const fleet = stack.use(await LocalFleet.start(context, { sandbox, directory, port: 0, leaseSeconds }));
  const first = await fleet.startWorker();
  console.log(`API ${fleet.url}, sandbox ${sandbox.runtime}, worker pid ${first.pid}`);
  const client = new DemoClient(fleet, context.signal);

  heading(`First message: ${table} attached, and a small computation over it (cold)`);
  await timed([first], () => client.send("count", countZones, { attach: table }));

  heading("Second message: builds on the file that the first one left (the sandbox lingers)");
  await timed([first], () => client.send("rank", rankZones));

  heading("Third message: its worker is killed by SIGKILL while it runs");
  const second = await recover(fleet, first, client);

  heading("What was committed");
  await client.showSession();
  console.log(
    `\nworker 2 (pid ${second.pid}) carried on where worker 1 was killed; nothing was lost or answered twice`,
  );

  heading("Stopping everything");
  await stack.disposeAsync();
  console.log(`done in ${((performance.now() - began) / 1_000).toFixed(1)} s`);
  return 0;
};

/** Kills the worker in the middle of the turn, starts another, and sees the message answered. */
async function recover(fleet: LocalFleet, first: FleetProcess, client: DemoClient): Promise<FleetProcess> {
  const halfWay = Promise.withResolvers<void>();
  const reply = client.send("slow", slowWork, {
    onOutput: (text) => {
      if (text.includes("step 2")) halfWay.resolve();
    },
  });
  // Awaited at the end; what fails before must not go unheard in between.
  reply.catch(() => undefined);
  await Promise.race([halfWay.promise, reply]);
  await first.kill();
  const killed = performance.now();
  console.log(`>> killed worker 1 (pid ${first.pid}); starting worker 2`);
  const second = await fleet.startWorker();
  await timed([second], () => reply);
  console.log(
    `>> answered ${((performance.now() - killed) / 1_000).toFixed(1)} s after the kill (the lease is ${leaseSeconds} s)`,
  );
  return second;
}

/** Does something and prints what the phases of its turns took, by the workers' metrics. */
async function timed(workers: readonly FleetProcess[], work: () => Promise<void>): Promise<void> {
  const urls = workers.map(({ ready }) => String(ready.metricsUrl));
  const before = await readPhaseTimes(urls);
  await work();
  console.log(`phases: ${describePhases(before, await readPhaseTimes(urls))}`);
}

async function findZoneTable(): Promise<string> {
  for (const path of zoneTables) {
    if ((await stat(path).catch(() => null))?.isFile()) return path;
  }
  throw new SetupError("SETUP_PROGRAM_MISSING", `none of ${zoneTables.join(", ")} is here: install tzdata`);
}
