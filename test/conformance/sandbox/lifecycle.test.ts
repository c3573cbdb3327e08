import { setTimeout as delay } from "node:timers/promises";
import type { Sandbox } from "@longshore/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { leftovers } from "./leftovers.ts";
import { platforms } from "./platforms.ts";
import { processesOf, readUntil, sessionFile, World } from "./world.ts";

/** Ignores every signal it can, and leaves a daemon in a session of its own. */
const STUBBORN = [
  "sh",
  "-c",
  `trap '' HUP INT QUIT TERM PIPE USR1 USR2
   (setsid sh -c 'trap "" TERM; while :; do echo x >> ticks; sleep 0.02; done' < /dev/null > /dev/null 2>&1 &)
   echo up; while :; do sleep 0.02; done`,
];

describe.each(platforms)("$name", (platform) => {
  let world: World;
  beforeAll(async () => {
    world = await World.open(platform);
  });
  afterAll(() => world.close());

  /** Starts the stubborn program and resolves when its daemon ticks. */
  async function startStubborn() {
    const spec = await world.spec(STUBBORN);
    const sandbox = await world.runtime.start(spec);
    await readUntil(sandbox, "up\n");
    while ((await sessionFile(spec, "ticks")) === "") await delay(5);
    return { sandbox, spec };
  }

  test("paused, nothing in it runs; resumed, it goes on and what was sent meanwhile arrives", async () => {
    const spec = await world.spec([
      "sh",
      "-c",
      "(while :; do echo x >> ticks; sleep 0.01; done) & while read line; do echo got $line; done",
    ]);
    const sandbox = await world.runtime.start(spec);
    while ((await sessionFile(spec, "ticks")) === "") await delay(5);
    for (let round = 0; round < 3; round++) {
      await sandbox.pause();
      await sandbox.pause();
      const ticks = await sessionFile(spec, "ticks");
      sandbox.stdin.write(`${round}\n`);
      await delay(100);
      expect(await sessionFile(spec, "ticks")).toBe(ticks);
      await sandbox.resume();
      await sandbox.resume();
      await readUntil(sandbox, `got ${round}\n`);
    }
    await sandbox.destroy();
  });

  test("a polite program ends by itself within its grace", async () => {
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
    expect(await processesOf(spec.user.uid)).toEqual([]);
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
    expect(await processesOf(spec.user.uid)).toEqual([]);
    await sandbox.destroy();
  });

  test("after the end, pausing, resuming and stopping are nothing", async () => {
    const sandbox = await world.start(["true"]);
    await sandbox.exited;
    await sandbox.pause();
    await sandbox.resume();
    await sandbox.stop(1_000);
    await sandbox.destroy();
    await sandbox.pause();
    await sandbox.stop(1_000);
  });

  test("a start that is called off at any moment leaves nothing", async () => {
    for (const afterMs of [0, 2, 5, 10, 20, 40, 80, 160]) {
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

  test("a slot that is not there is told as a failed start, or a wrong specification", async () => {
    const spec = await world.spec(["true"]);
    const start = async () => {
      const sandbox = await world.runtime.start({ ...spec, slotDirectory: `${spec.slotDirectory}-missing` });
      await sandbox.exited.finally(() => sandbox.destroy());
    };
    await expect(start()).rejects.toMatchObject({ code: "SANDBOX_START_FAILED" });
    expect(await leftovers(world, spec.labels.nonce)).toEqual([]);
  });
});
