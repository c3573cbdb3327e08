/**
 * A worker to be killed: announces itself, starts a sandbox as its arguments say and prints what it did.
 * Arguments: platform, run directory, phase (`running`, `paused` or `creating`).
 */
import { platforms } from "./platforms.ts";
import { World } from "./world.ts";

const [name, runDirectory, phase] = process.argv.slice(2);
const platform = platforms.find((candidate) => candidate.name === name);
if (platform === undefined || runDirectory === undefined) throw new Error("platform and run directory");
const world = await World.open(platform, runDirectory);
const spec = await world.spec([
  "sh",
  "-c",
  "trap '' HUP TERM INT PIPE; (setsid sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' < /dev/null > /dev/null 2>&1 &); echo up; while :; do sleep 0.05; done",
]);
const started = { worker: world.workerId, nonce: spec.labels.nonce, uid: spec.user.uid };
if (phase === "creating") {
  console.log(JSON.stringify(started));
  await world.runtime.start(spec);
} else {
  const sandbox = await world.start(spec.command ?? [], spec);
  sandbox.stdout.resume();
  if (phase === "paused") await sandbox.pause();
  console.log(JSON.stringify(started));
}
setInterval(() => undefined, 60_000);
