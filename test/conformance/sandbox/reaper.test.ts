import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  BwrapRuntime,
  findHostTools,
  Reaper,
  type ReaperReport,
  type SandboxRuntime,
} from "@longshore/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { leftovers, runningContainers } from "./leftovers.ts";
import { HOST, type Platform, platforms } from "./platforms.ts";
import { eventually, processesOf, readUntil, World } from "./world.ts";

/** Kills of a worker; `npm run test:soak` has more. */
const KILLS = Number(process.env.LONGSHORE_SOAK_KILLS ?? 1);

interface Started {
  readonly child: ChildProcess;
  readonly worker: string;
  /** The user ids of its sandboxes. */
  readonly users: readonly number[];
}

describe.each(platforms)("$name", (platform) => {
  /** What is the engine's part and the same for each of its OCI runtimes. */
  const testOfEngine = test.skipIf(platform.name === "docker runsc");
  let runDirectory: string;
  let live: World;
  beforeAll(async () => {
    runDirectory = await mkdtemp(join(tmpdir(), "longshore-reaper-"));
    live = await World.open(platform, runDirectory);
  });
  afterAll(async () => {
    await live.close();
    await rm(runDirectory, { recursive: true, force: true });
  });

  async function startWorker(phase: "steady" | "creating"): Promise<Started> {
    const program = new URL("./worker-process.ts", import.meta.url).pathname;
    const child = spawn(process.execPath, [program, platform.name, runDirectory, phase], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const failed = once(child, "exit").then(([code]) => {
      throw new Error(`the worker ended with ${code} before it had started`);
    });
    const [line] = (await Promise.race([once(child.stdout, "data"), failed])) as [Buffer];
    failed.catch(() => undefined);
    return { child, ...(JSON.parse(line.toString()) as Omit<Started, "child">) };
  }

  function reaper(isActivationLive = true): Reaper {
    return new Reaper({
      runtimes: [live.runtime],
      runDirectory,
      isActivationLive: async () => isActivationLive,
    });
  }

  /** All that a worker has on the host but its processes. */
  async function lastingOf({ worker, users }: Started): Promise<string[]> {
    return [
      ...(await leftovers({ runDirectory }, worker)),
      ...(await readdir(join(runDirectory, "workers"))).filter((name) => name.startsWith(worker)),
      ...(await readdir(join(runDirectory, "users"))).filter((name) => users.includes(Number(name))),
    ];
  }

  async function processesOfAll({ users }: Started): Promise<number[]> {
    return (await Promise.all(users.map(processesOf))).flat();
  }

  /** Kills a worker and makes passes until nothing is left of it. */
  async function killAndReap(started: Started): Promise<void> {
    if (started.child.signalCode === null) {
      started.child.kill("SIGKILL");
      await once(started.child, "exit");
    }
    // The first pass finds what there is; what the engine still finishes, and the users, go with a later one.
    const reports: ReaperReport[] = [];
    const left = async () => [...(await lastingOf(started)), ...(await processesOfAll(started))];
    await eventually(async () => {
      reports.push(await reaper().run());
      return (await left()).length === 0;
    }, `nothing of ${started.worker}`).catch(async (error: Error) => {
      error.message += `, but ${JSON.stringify([await left(), reports.at(-1)])}`;
      throw error;
    });
    expect(reports.flatMap(({ stuck, errors }) => [...stuck, ...errors])).toEqual([]);
    expect(reports.length).toBeLessThan(8);
  }

  test(
    "of a killed worker nothing is left, whether a sandbox ran, was paused or was being made",
    async () => {
      const neighbour = await live.start(["sh", "-c", "while read line; do echo got $line; done"]);
      for (let kill = 0; kill < KILLS; kill++) await killAndReap(await startWorker("creating"));
      neighbour.stdin.write("alive\n");
      await readUntil(neighbour, "got alive\n");
      await neighbour.destroy();
    },
    KILLS * 120_000,
  );

  test("bubblewrap dies with its worker, paused or not, also where nobody reaps", async ({ skip }) => {
    skip(!platform.name.startsWith("bwrap"), "a container that is paused waits for the reaper");
    const started = await startWorker("steady");
    expect((await processesOfAll(started)).length).toBeGreaterThan(0);
    // A worker's sandboxes can be gone a moment before it has closed the socket by which it counts as alive.
    const exit = once(started.child, "exit");
    started.child.kill("SIGKILL");
    await exit;
    await eventually(async () => (await processesOfAll(started)).length === 0, "the end of its processes");
    const reports = [await reaper().run(), await reaper().run()];
    expect(reports.flatMap(({ stuck, errors }) => [...stuck, ...errors])).toEqual([]);
    expect(await lastingOf(started)).toEqual([]);
  });

  test("a container dies with its worker, whatever it ignores, also where nobody reaps", async ({ skip }) => {
    skip(platform.name.startsWith("bwrap"), "bubblewrap's are looked at above");
    const started = await startWorker("steady");
    expect(await runningContainers(started.worker)).toHaveLength(1);
    started.child.kill("SIGKILL");
    await eventually(
      async () => (await runningContainers(started.worker)).length === 0,
      "the end of the one that is not paused",
    );
    await killAndReap(started);
  });

  testOfEngine("of a stopped worker nothing is touched", async () => {
    const started = await startWorker("steady");
    started.child.kill("SIGSTOP");
    const before = await lastingOf(started);
    const report = await reaper().run();
    expect(report).toMatchObject({ sandboxes: 0, workers: 0, slots: 0, errors: [] });
    expect(await lastingOf(started)).toEqual(before);
    expect((await processesOfAll(started)).length).toBeGreaterThan(0);
    await killAndReap(started);
  });

  testOfEngine("of a live worker only what belongs to an ended activation goes", async () => {
    const spec = await live.spec(["sleep", "1000"]);
    const sandbox = await live.runtime.start(spec);
    expect((await reaper(true).run()).sandboxes).toBe(0);
    const asked: unknown[] = [];
    const selective = new Reaper({
      runtimes: [live.runtime],
      runDirectory,
      isActivationLive: async (labels) => {
        asked.push(labels);
        return labels.nonce !== spec.labels.nonce;
      },
    });
    // Its worker may be about to remove it.
    expect(await selective.run()).toMatchObject({ sandboxes: 0, errors: [] });
    expect((await selective.run()).sandboxes).toBe(1);
    expect(asked).toContainEqual(spec.labels);
    expect((await sandbox.exited).signal).toBe("SIGKILL");
    expect(await leftovers(live, spec.labels.nonce)).toEqual([]);
    await sandbox.destroy();
  });

  test("what was made ready for a start that never came goes", async ({ skip }) => {
    skip(live.runtime.foresee === undefined, "it makes nothing ready");
    skip(!platform.countsProcesses, "it has no control groups to make");
    const labels = live.labels();
    live.runtime.foresee?.(labels);
    await eventually(async () => (await leftovers(live, labels.nonce)).length > 0, "its control groups");
    await live.runtime.reap(async ({ nonce }) => nonce !== labels.nonce);
    expect(await leftovers(live, labels.nonce)).toEqual([]);
  });

  testOfEngine("what a worker left that died during a pass is all there for the next one", async () => {
    const started = await startWorker("steady");
    const before = await lastingOf(started);
    const unused = () => Promise.reject(new Error("a pass only reaps"));
    /** Looked at after the worker's own runtime, whose sandboxes were still a live worker's then. */
    const deadly: SandboxRuntime = {
      name: "bwrap",
      check: unused,
      start: unused,
      reap: async () => {
        started.child.kill("SIGKILL");
        await once(started.child, "exit");
        return { removed: [], stuck: [] };
      },
    };
    const report = await new Reaper({
      runtimes: [live.runtime, deadly],
      runDirectory,
      isActivationLive: async () => true,
    }).run();
    expect(report).toMatchObject({ sandboxes: 0, workers: 0, slots: 0, errors: [] });
    if (platform.name.startsWith("docker")) expect(await lastingOf(started)).toEqual(before);
    await killAndReap(started);
  });

  testOfEngine("a removal of a slot that was cut off is finished", async () => {
    const { nonce } = live.labels();
    // One with a file system of its own is unmounted before it is moved away.
    const slotDirectory = await live.slot(nonce, await live.users.acquire(), null);
    await writeFile(join(slotDirectory, "workspace", "file"), "content");
    const cutOff = join(slotDirectory, "..", `.removing-${nonce}`);
    await rename(slotDirectory, cutOff);
    expect((await reaper().run()).slots).toBe(1);
    expect(await readdir(join(cutOff, ".."))).not.toContain(`.removing-${nonce}`);
  });
});

test("bubblewrap that is killed before its first process dies with it leaves none", async () => {
  const bwrap = platforms.find(({ name }) => name === "bwrap without cgroups") as Platform;
  const world = await World.open(bwrap);
  const tools = findHostTools();
  // bubblewrap clones its first process, tells of it, and both wait for a byte that never comes.
  const path = (name: string) => join(world.runDirectory, name);
  const script = `#!/bin/sh
    tr '\\0' '\\n' <&5 | grep -vx -e --disable-userns | tr '\\n' '\\0' > ${path("options")}
    exec ${tools.bwrap} --userns-block-fd 8 --info-fd 9 "$@" 5<${path("options")} 8<>${path("never")} 9>${path("info")}`;
  await writeFile(path("wrapper"), script);
  for (const file of ["options", "info"]) await writeFile(path(file), "");
  await once(spawn("mkfifo", [path("never")]), "exit");
  for (const file of ["wrapper", "options", "info", "never"]) await chmod(path(file), 0o777);
  const runtime = new BwrapRuntime({
    host: HOST,
    runDirectory: world.runDirectory,
    tools: { ...tools, bwrap: path("wrapper") },
    cgroups: null,
  });
  const spec = await world.spec(["true"]);
  const started = runtime.start(spec);
  started.catch(() => undefined);
  const first = async () => Number(/"child-pid": (\d+)/.exec(await readFile(path("info"), "utf8"))?.[1]);
  await eventually(async () => (await first()) > 0, "the first process");
  const status = await readFile(`/proc/${await first()}/status`, "utf8");
  process.kill(Number(/^PPid:\s+(\d+)$/m.exec(status)?.[1]), "SIGKILL");
  await expect(started).rejects.toThrow();
  expect(await processesOf(spec.user.uid)).toEqual([]);
  await world.close();
});

test("bwrap's reaper takes no container of the same run directory for its own, nor its processes", async () => {
  const [docker, bwrap] = ["docker", "bwrap"].map(
    (start) => platforms.find(({ name }) => name.startsWith(start)) as Platform,
  ) as [Platform, Platform];
  const world = await World.open(docker);
  const container = await world.start(["sh", "-c", "while read line; do echo got $line; done"]);
  const asked: unknown[] = [];
  const result = await bwrap.runtime(world.runDirectory).reap(async (labels) => {
    asked.push(labels);
    return false;
  });
  expect({ asked, ...result }).toEqual({ asked: [], removed: [], stuck: [] });
  container.stdin.write("alive\n");
  await readUntil(container, "got alive\n");
  await world.close();
});
