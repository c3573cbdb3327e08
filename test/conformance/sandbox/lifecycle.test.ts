import type { Sandbox, SandboxSpec } from "@longshore/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { leftovers } from "./leftovers.ts";
import { platforms } from "./platforms.ts";
import { eventually, processesOf, readUntil, sessionFile, World } from "./world.ts";

/** Ignores every signal it can, and leaves a daemon in a session of its own. */
const STUBBORN = [
  "sh",
  "-c",
  `trap '' HUP INT QUIT TERM PIPE USR1 USR2
   (setsid sh -c 'trap "" TERM; while :; do echo x >> ticks; sleep 0.02; done' < /dev/null > /dev/null 2>&1 &)
   echo up; while :; do sleep 0.02; done`,
];

/** Resolves when a program has ticked as often again. */
async function ticksMore(spec: SandboxSpec, times: number): Promise<void> {
  const seen = (await sessionFile(spec, "ticks")).length;
  const isSo = async () => (await sessionFile(spec, "ticks")).length >= seen + times * "x\n".length;
  await eventually(isSo, "more ticks");
}

/** What was killed may take a moment more to leave the process table; it runs nothing any more. */
async function noProcessesOf(spec: SandboxSpec): Promise<void> {
  await eventually(async () => (await processesOf(spec.user.uid)).length === 0, "the end of all processes");
}

describe.each(platforms)("$name", (platform) => {
  let world: World;
  /** What is the engine's part and the same for each of its OCI runtimes. */
  const testOfEngine = test.skipIf(platform.name === "docker runsc");
  beforeAll(async () => {
    world = await World.open(platform);
  });
  afterAll(() => world.close());

  /** Starts the stubborn program and resolves when its daemon ticks. */
  async function startStubborn() {
    const spec = await world.spec(STUBBORN);
    const sandbox = await world.runtime.start(spec);
    await readUntil(sandbox, "up\n");
    await ticksMore(spec, 1);
    return { sandbox, spec };
  }

  /** Starts a program that ticks, and answers lines. */
  async function startTicking() {
    const spec = await world.spec([
      "sh",
      "-c",
      "(while :; do echo x >> ticks; sleep 0.01; done) & while read line; do echo got $line; done",
    ]);
    const sandbox = await world.runtime.start(spec);
    await ticksMore(spec, 1);
    return { sandbox, spec };
  }

  test("paused, nothing in it runs; resumed, it goes on and what was sent meanwhile arrives", async () => {
    const { sandbox: neighbour, spec: neighbourSpec } = await startTicking();
    const { sandbox, spec } = await startTicking();
    for (let round = 0; round < 2; round++) {
      await sandbox.pause();
      await sandbox.pause();
      const ticks = await sessionFile(spec, "ticks");
      sandbox.stdin.write(`${round}\n`);
      // The neighbour is the clock: it does in this time what the paused one must not.
      await ticksMore(neighbourSpec, 10);
      expect(await sessionFile(spec, "ticks")).toBe(ticks);
      await sandbox.resume();
      await sandbox.resume();
      await readUntil(sandbox, `got ${round}\n`);
      await ticksMore(spec, 1);
    }
    await Promise.all([sandbox.destroy(), neighbour.destroy()]);
  });

  testOfEngine("a polite program ends by itself within its grace", async () => {
    const sandbox = await world.start([
      "sh",
      "-c",
      "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.02; done",
    ]);
    await readUntil(sandbox, "up\n");
    await sandbox.stop(10_000);
    expect(await sandbox.exited).toEqual({ exitCode: 7, signal: null, outOfMemory: false });
    await readUntil(sandbox, "bye\n");
  });

  test("a paused program is resumed to end politely", async () => {
    const sandbox = await world.start([
      "sh",
      "-c",
      "trap 'exit 7' TERM; echo up; while :; do sleep 0.02; done",
    ]);
    await readUntil(sandbox, "up\n");
    await sandbox.pause();
    await sandbox.stop(10_000);
    expect((await sandbox.exited).exitCode).toBe(7);
  });

  test("what ignores signals, and its double-forked daemon, is killed after the grace", async () => {
    const { sandbox, spec } = await startStubborn();
    await sandbox.stop(50);
    expect(await sandbox.exited).toEqual({ exitCode: 137, signal: "SIGKILL", outOfMemory: false });
    await noProcessesOf(spec);
    await sandbox.destroy();
    expect(await leftovers(world, spec.labels.nonce)).toEqual([]);
  });

  test("destroying kills everything, also what is paused, and leaves nothing", async () => {
    for (const isPaused of [false, true]) {
      const { sandbox, spec } = await startStubborn();
      if (isPaused) await sandbox.pause();
      await Promise.all([sandbox.destroy(), sandbox.destroy()]);
      expect((await sandbox.exited).signal).toBe("SIGKILL");
      expect(await processesOf(spec.user.uid)).toEqual([]);
      expect(await leftovers(world, spec.labels.nonce)).toEqual([]);
      await sandbox.destroy();
    }
  });

  test("the end of the main process takes its daemons along", async () => {
    const spec = await world.spec([
      "sh",
      "-c",
      "(setsid sh -c 'while :; do echo x >> ticks; sleep 0.01; done' < /dev/null > /dev/null 2>&1 &) ; while [ ! -s ticks ]; do sleep 0.01; done",
    ]);
    const sandbox = await world.runtime.start(spec);
    expect((await sandbox.exited).exitCode).toBe(0);
    await noProcessesOf(spec);
    await sandbox.destroy();
  });

  testOfEngine("after the end, pausing, resuming and stopping are nothing", async () => {
    const sandbox = await world.start(["true"]);
    await sandbox.exited;
    await sandbox.pause();
    await sandbox.resume();
    await sandbox.stop(1_000);
    await sandbox.destroy();
    await sandbox.pause();
    await sandbox.stop(1_000);
  });

  testOfEngine("a start that is called off at any moment leaves nothing", async () => {
    for (const afterMs of [0, 5, 20, 40, 80]) {
      const spec = await world.spec(["sleep", "1000"]);
      const controller = new AbortController();
      const starting = world.runtime.start(spec, controller.signal);
      const timer = setTimeout(() => controller.abort(new Error("called off")), afterMs);
      const outcome: Sandbox | Error = await starting.catch((error: Error) => error);
      clearTimeout(timer);
      if (outcome instanceof Error) expect(outcome.message).toBe("called off");
      else await outcome.destroy();
      expect(await processesOf(spec.user.uid)).toEqual([]);
      expect(await leftovers(world, spec.labels.nonce)).toEqual([]);
    }
    await expect(
      world.runtime.start(await world.spec(["true"]), AbortSignal.abort(new Error("early"))),
    ).rejects.toThrow("early");
  });

  testOfEngine("a slot or working directory that is not there makes the start fail", async () => {
    const spec = await world.spec(["true"]);
    const changes = [
      { slotDirectory: `${spec.slotDirectory}-missing` },
      ...(platform.name.startsWith("bwrap") ? [{ workingDirectory: "/session/missing" }] : []),
    ];
    for (const change of changes) {
      await expect(world.runtime.start({ ...spec, ...change })).rejects.toMatchObject({
        code: "SANDBOX_START_FAILED",
        message: expect.stringContaining("missing"),
      });
      expect(await leftovers(world, spec.labels.nonce)).toEqual([]);
      expect(await processesOf(spec.user.uid)).toEqual([]);
    }
  });
});
