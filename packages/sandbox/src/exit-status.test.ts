import { expect, test } from "vitest";
import { exitOfStatus } from "./exit-status.ts";

test("a status is told as a shell tells it", () => {
  expect(exitOfStatus(3, false)).toEqual({ exitCode: 3, signal: null, outOfMemory: false });
  expect(exitOfStatus(143, false)).toEqual({ exitCode: 143, signal: "SIGTERM", outOfMemory: false });
  expect(exitOfStatus(255, false)).toEqual({ exitCode: 255, signal: null, outOfMemory: false });
});

test("out of memory takes the kernel's mark and a killed main process", () => {
  expect(exitOfStatus(137, true).outOfMemory).toBe(true);
  expect(exitOfStatus(137, false).outOfMemory).toBe(false);
  expect(exitOfStatus(0, true).outOfMemory).toBe(false);
  expect(exitOfStatus(1, true).outOfMemory).toBe(false);
});
