import { expect, test } from "vitest";
import {
  CommandFailedError,
  EngineUnreachableError,
  ImageMissingError,
  RuntimeRestingError,
  SandboxStartError,
} from "./errors.ts";
import type { Sandbox, SandboxRuntime, SandboxSpec } from "./sandbox.ts";
import { StartBreaker } from "./start-breaker.ts";

const spec = {} as SandboxSpec;
const sandbox = {} as Sandbox;

/** A runtime that does what it is told to, behind a breaker whose time stands still. */
function rig() {
  let nowMs = 1_000;
  const told = {
    start: async (): Promise<Sandbox> => sandbox,
    check: async () => ({ version: "1", weaknesses: [] as string[] }),
  };
  let tried = 0;
  const runtime: SandboxRuntime = {
    name: "docker",
    check: () => told.check(),
    start: () => {
      tried++;
      return told.start();
    },
    reap: async () => ({ removed: [], stuck: [] }),
  };
  const breaker = new StartBreaker(runtime, { now: () => nowMs, monotonic: () => nowMs });
  return {
    breaker,
    told,
    tried: () => tried,
    pass: (ms: number) => {
      nowMs += ms;
    },
    fail: (error: Error) => {
      told.start = () => Promise.reject(error);
    },
    async isRefused() {
      const before = tried;
      const error = await breaker.start(spec).catch((reason: unknown) => reason);
      return error instanceof RuntimeRestingError && tried === before;
    },
  };
}

const broken = new SandboxStartError("the OCI runtime failed", { retryable: true });

test("starts that keep failing rest for 0, 0, 10, 30, 120, 300, 900 and 900 s", async () => {
  const { breaker, fail, pass, tried, isRefused } = rig();
  fail(broken);
  for (const seconds of [0, 0, 10, 30, 120, 300, 900, 900]) {
    await expect(breaker.start(spec)).rejects.toBe(broken);
    if (seconds === 0) continue;
    pass(seconds * 1_000 - 1);
    expect(await isRefused()).toBe(true);
    pass(1);
  }
  expect(tried()).toBe(8);
});

test("while it rests, readiness says why and until when", async () => {
  const { breaker, fail, pass } = rig();
  await expect(breaker.check()).resolves.toMatchObject({ version: "1" });
  fail(broken);
  for (let round = 0; round < 3; round++) await expect(breaker.start(spec)).rejects.toBe(broken);
  pass(4_000);
  await expect(breaker.check()).rejects.toMatchObject({
    code: "RUNTIME_RESTING",
    retryable: true,
    retryInMs: 6_000,
    cause: broken,
    message: expect.stringMatching(/docker.*3 .*in a row.*the OCI runtime failed.*6 s/),
  });
  pass(6_000);
  await expect(breaker.check()).resolves.toBeDefined();
});

test("after the rest one start is tried, the others wait for how it ends", async () => {
  const { breaker, fail, pass, told, isRefused, tried } = rig();
  fail(broken);
  for (let round = 0; round < 3; round++) await expect(breaker.start(spec)).rejects.toBe(broken);
  pass(10_000);
  const trial = Promise.withResolvers<Sandbox>();
  told.start = () => trial.promise;
  const started = breaker.start(spec);
  expect(await isRefused()).toBe(true);
  trial.resolve(sandbox);
  await expect(started).resolves.toBe(sandbox);
  // All over: the next failures are the first ones.
  fail(broken);
  for (let round = 0; round < 3; round++) await expect(breaker.start(spec)).rejects.toBe(broken);
  expect(tried()).toBe(7);
});

test.each([
  ["an image that is missing", new ImageMissingError("x")],
  ["a program that is missing", new CommandFailedError(["x"], "ENOENT")],
  ["what the definition got wrong", new SandboxStartError("no such root")],
])("%s is not the engine's failure", async (_, error) => {
  const { breaker, fail } = rig();
  fail(error);
  for (let round = 0; round < 5; round++) await expect(breaker.start(spec)).rejects.toBe(error);
});

test("a start that is cut off is nobody's failure", async () => {
  const { breaker, fail } = rig();
  fail(broken);
  for (let round = 0; round < 5; round++) {
    await expect(breaker.start(spec, AbortSignal.abort())).rejects.toBe(broken);
  }
});

test("an engine that could not be reached is used again as soon as it answers", async () => {
  const { breaker, fail, told } = rig();
  const gone = new EngineUnreachableError("unix:///engine", new Error("refused"));
  fail(gone);
  told.check = () => Promise.reject(gone);
  for (let round = 0; round < 5; round++) await expect(breaker.start(spec)).rejects.toBe(gone);
  told.start = async () => sandbox;
  await expect(breaker.start(spec)).rejects.toBe(gone);
  told.check = async () => ({ version: "1", weaknesses: [] });
  await expect(breaker.start(spec)).resolves.toBe(sandbox);
});
