/**
 * A worker to be killed: announces itself, starts a sandbox that runs and one that it pauses, and prints
 * what it has. With `creating` it is in the middle of several starts, each in another moment, when it prints.
 * Arguments: platform, run directory, `steady` or `creating`.
 */
import { setTimeout as delay } from "node:timers/promises";
import { platforms } from "./platforms.ts";
import { World } from "./world.ts";

/** Time from one start to the next, in milliseconds. */
const BETWEEN_STARTS = [40, 20, 10, 5];

const [name, runDirectory, phase] = process.argv.slice(2);
const platform = platforms.find((candidate) => candidate.name === name);
if (platform === undefined || runDirectory === undefined) throw new Error("platform and run directory");
const world = await World.open(platform, runDirectory);
const command = [
  "sh",
  "-c",
  "trap '' HUP TERM INT PIPE; (setsid sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' < /dev/null > /dev/null 2>&1 &); echo up; while :; do sleep 0.05; done",
];
const users: number[] = [];
const makeSpec = async () => {
  const spec = await world.spec(command);
  users.push(spec.user.uid);
  return spec;
};

for (const isPaused of [false, true]) {
  const sandbox = await world.runtime.start(await makeSpec());
  sandbox.stdout.resume();
  if (isPaused) await sandbox.pause();
}
if (phase === "creating") {
  for (const afterMs of BETWEEN_STARTS) {
    void world.runtime.start(await makeSpec());
    await delay(afterMs);
  }
}
console.log(JSON.stringify({ worker: world.workerId, users }));
setInterval(() => undefined, 60_000);
