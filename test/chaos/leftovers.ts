import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { engineAt } from "../../infra/setup/provided-services.ts";
import { required } from "../support/fleet.ts";
import { seesMounted } from "../support/sees-mounted.ts";

/** What is being removed just then may take so long, in ms: more than a pass of the reaper. */
const SETTLE_MS = 15_000;
const LOOK_EVERY_MS = 300;

/** Something of a fleet's sandboxes that is still there. */
export interface Leftover {
  readonly what: string;
  readonly remove: () => Promise<void>;
}

/** What is left of the sandboxes below a fleet's run directory, once what is just ending has ended. */
export async function settleLeftovers(runDirectory: string): Promise<Leftover[]> {
  const until = Date.now() + SETTLE_MS;
  for (;;) {
    const found = await findLeftovers(runDirectory);
    if (found.length === 0 || Date.now() > until) return found;
    await delay(LOOK_EVERY_MS);
  }
}

async function findLeftovers(runDirectory: string): Promise<Leftover[]> {
  const found = await Promise.all([
    containers(runDirectory),
    processes(runDirectory),
    slots(runDirectory),
    mounts(runDirectory),
  ]);
  return found.flat();
}

async function containers(runDirectory: string): Promise<Leftover[]> {
  const engine = engineAt(required("DOCKER_HOST"));
  const filters = { label: [`longshore.run-directory=${runDirectory}`] };
  const all = await engine.listContainers({ all: true, filters });
  return all.map(({ Id, Names }) => ({
    what: `container ${Names.join(" ")}`,
    remove: () => engine.getContainer(Id).remove({ force: true, v: true }),
  }));
}

/** Those that name the run directory, were started with it, or see it mounted. */
async function processes(runDirectory: string): Promise<Leftover[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  const found = await Promise.all(
    pids.map(async (pid) => {
      const read = (file: string) => readFile(`/proc/${pid}/${file}`, "utf8").catch(() => "");
      const [command, mounted, variables] = await Promise.all(["cmdline", "mountinfo", "environ"].map(read));
      const isOne =
        command?.includes(runDirectory) ||
        seesMounted(mounted ?? "", `${runDirectory}/workers`) ||
        variables?.split("\0").includes(`LONGSHORE_RUN_DIR=${runDirectory}`);
      if (!isOne) return [];
      const what = `process ${pid} ${command?.replaceAll("\0", " ").slice(0, 200)}`;
      return [{ what, remove: async () => void process.kill(Number(pid), "SIGKILL") }];
    }),
  );
  return found.flat();
}

async function slots(runDirectory: string): Promise<Leftover[]> {
  const workers = join(runDirectory, "workers");
  const found: Leftover[] = [];
  for (const worker of await readdir(workers).catch(() => [])) {
    for (const slot of await readdir(join(workers, worker, "slots")).catch(() => []))
      found.push({ what: `slot ${worker}/${slot}`, remove: async () => undefined });
  }
  return found;
}

async function mounts(runDirectory: string): Promise<Leftover[]> {
  const lines = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
  return lines
    .filter((line) => line.includes(runDirectory))
    .map((line) => ({ what: `mount ${line}`, remove: async () => undefined }));
}
