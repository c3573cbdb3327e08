import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { WorkerIdTakenError, WorkerPresence } from "./index.ts";

let runDirectory: string;
const children: ChildProcess[] = [];

beforeEach(async () => {
  runDirectory = await mkdtemp(join(tmpdir(), "presence-"));
});

afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  await rm(runDirectory, { recursive: true });
});

async function announceInChild(workerId: string): Promise<ChildProcess> {
  const source = `
    const { WorkerPresence } = await import(${JSON.stringify(new URL("./index.ts", import.meta.url).href)});
    await WorkerPresence.announce(${JSON.stringify(runDirectory)}, ${JSON.stringify(workerId)});
    console.log("announced");`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", source], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(child);
  await once(child.stdout, "data");
  return child;
}

test("alive from the announcement to the end, and gone without a trace", async () => {
  expect(await WorkerPresence.isAlive(runDirectory, "one")).toBe(false);
  const presence = await WorkerPresence.announce(runDirectory, "one");
  expect(await WorkerPresence.isAlive(runDirectory, "one")).toBe(true);
  expect(await WorkerPresence.isAlive(runDirectory, "two")).toBe(false);
  await presence.close();
  expect(await WorkerPresence.isAlive(runDirectory, "one")).toBe(false);
  expect(await readdir(join(runDirectory, "workers"))).toEqual([]);
});

test("an id in use is refused and its owner stays alive", async () => {
  const presence = await WorkerPresence.announce(runDirectory, "one");
  await expect(WorkerPresence.announce(runDirectory, "one")).rejects.toThrow(WorkerIdTakenError);
  expect(await WorkerPresence.isAlive(runDirectory, "one")).toBe(true);
  expect(await readdir(join(runDirectory, "workers"))).toEqual(["one"]);
  await presence.close();
});

test("a killed worker is dead, and its id can be taken again", async () => {
  const child = await announceInChild("one");
  expect(await WorkerPresence.isAlive(runDirectory, "one")).toBe(true);
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(await WorkerPresence.isAlive(runDirectory, "one")).toBe(false);

  await writeFile(join(runDirectory, "workers", "one", "left"), "behind");
  const presence = await WorkerPresence.announce(runDirectory, "one");
  expect(await WorkerPresence.isAlive(runDirectory, "one")).toBe(true);
  const others = (await readdir(join(runDirectory, "workers"))).filter((name) => name !== "one");
  expect(others).toEqual([expect.stringMatching(/^one\.dead-/)]);
  await presence.close();
});

test("a stopped worker is alive, however often it is asked", async () => {
  const child = await announceInChild("one");
  child.kill("SIGSTOP");
  for (let count = 0; count < 600; count++) {
    expect(await WorkerPresence.isAlive(runDirectory, "one")).toBe(true);
  }
  child.kill("SIGCONT");
});

test("paths longer than a socket's name may be", async () => {
  const deep = join(runDirectory, "d".repeat(100), "e".repeat(100));
  await mkdir(deep, { recursive: true });
  const presence = await WorkerPresence.announce(deep, "w".repeat(128));
  expect(await WorkerPresence.isAlive(deep, "w".repeat(128))).toBe(true);
  await presence.close();
  expect(await readdir(join(deep, "workers"))).toEqual([]);
});

test("an id that would leave the directory is refused", async () => {
  for (const id of ["", ".", "..", "a/b", "../x", "a".repeat(129)]) {
    await expect(WorkerPresence.announce(runDirectory, id)).rejects.toThrow(/workerId/);
  }
});
