import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Reaper, type ReaperReport } from "@longshore/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { leftovers } from "./leftovers.ts";
import { type Platform, platforms } from "./platforms.ts";
import { eventually, processesOf, readUntil, World } from "./world.ts";

interface Started {
  readonly child: ChildProcess;
  readonly worker: string;
  readonly nonce: string;
  readonly uid: number;
}

const PHASES = ["running", "paused", "creating"] as const;

describe.each(platforms)("$name", (platform) => {
  const isGvisor = platform.name === "docker runsc";
  /** What is the engine's part and the same for each of its OCI runtimes. */
  const testOfEngine = test.skipIf(isGvisor);
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

  async function startWorker(phase: string): Promise<Started> {
    const program = new URL("./worker-process.ts", import.meta.url).pathname;
    const child = spawn(process.execPath, [program, platform.name, runDirectory, phase], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = (await once(child.stdout, "data")) as [Buffer];
    return { child, ...(JSON.parse(line.toString()) as Omit<Started, "child">) };
  }

  function reaper(isActivationLive = true): Reaper {
    return new Reaper({
      runtimes: [live.runtime],
      runDirectory,
      isActivationLive: async () => isActivationLive,
    });
  }

  async function everythingOf(started: Started): Promise<string[]> {
    return [
      ...(await leftovers({ runDirectory }, started.nonce)),
      ...(await processesOf(started.uid)).map((pid) => `process ${pid}`),
      ...(await readdir(join(runDirectory, "workers"))).filter((name) => name.startsWith(started.worker)),
      ...(await readdir(join(runDirectory, "users"))).filter((name) => name === String(started.uid)),
    ];
  }

  test.each(PHASES.filter((phase) => phase !== "creating" || !isGvisor))(
    "of a worker killed while %s nothing is left",
    async (phase) => {
      const neighbour = await live.start(["sh", "-c", "while read line; do echo got $line; done"]);
      // Several moments of a start, since each has something else made already.
      const moments = phase === "creating" ? [0, 8, 30, 120] : [0];
      const killed = await Promise.all(
        moments.map(async (afterMs) => {
          const started = await startWorker(phase);
          await delay(afterMs);
          started.child.kill("SIGKILL");
          await once(started.child, "exit");
          return started;
        }),
      );
      // The first pass finds what there is; what the engine still finishes, and the user, go with a later one.
      const reports: ReaperReport[] = [];
      await eventually(async () => {
        reports.push(await reaper().run());
        return (await Promise.all(killed.map(everythingOf))).flat().length === 0;
      }, `nothing of ${phase}`);
      expect(reports.flatMap(({ stuck, errors }) => [...stuck, ...errors])).toEqual([]);
      expect(reports.length).toBeLessThan(8);
      neighbour.stdin.write("alive\n");
      await readUntil(neighbour, "got alive\n");
      await neighbour.destroy();
    },
  );

  test("of a stopped worker nothing is touched", async () => {
    const started = await startWorker("running");
    started.child.kill("SIGSTOP");
    // Its processes come and go by themselves; that there are some says enough.
    const lasting = async () => (await everythingOf(started)).filter((name) => !name.startsWith("process "));
    const before = await lasting();
    const report = await reaper().run();
    expect(report).toMatchObject({ sandboxes: 0, workers: 0, slots: 0, errors: [] });
    expect(await lasting()).toEqual(before);
    if (platform.name !== "docker runsc") expect((await processesOf(started.uid)).length).toBeGreaterThan(0);
    started.child.kill("SIGKILL");
    await once(started.child, "exit");
    await eventually(async () => {
      await reaper().run();
      return (await everythingOf(started)).length === 0;
    }, "nothing");
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
    expect((await selective.run()).sandboxes).toBe(1);
    expect(asked).toContainEqual(spec.labels);
    expect((await sandbox.exited).signal).toBe("SIGKILL");
    expect(await leftovers(live, spec.labels.nonce)).toEqual([]);
    await sandbox.destroy();
  });

  testOfEngine("a removal of a slot that was cut off is finished", async () => {
    const spec = await live.spec(["true"]);
    await writeFile(join(spec.slotDirectory, "workspace", "file"), "content");
    const cutOff = join(spec.slotDirectory, "..", `.removing-${spec.labels.nonce}`);
    await rename(spec.slotDirectory, cutOff);
    expect((await reaper().run()).slots).toBe(1);
    expect(await readdir(join(cutOff, ".."))).not.toContain(`.removing-${spec.labels.nonce}`);
  });
});

test("bwrap's reaper takes no container of the same run directory for its own, nor its processes", async () => {
  const [docker, bwrap] = ["docker runc", "bwrap"].map(
    (name) => platforms.find((platform) => platform.name === name) as Platform,
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
