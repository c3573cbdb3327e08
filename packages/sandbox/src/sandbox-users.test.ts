import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { SandboxUsers, SandboxUsersExhaustedError } from "./index.ts";

let runDirectory: string;

beforeEach(async () => {
  runDirectory = await mkdtemp(join(tmpdir(), "users-"));
});

afterEach(async () => {
  await rm(runDirectory, { recursive: true });
});

test("no two places of a host get one user, whichever worker asks", async () => {
  const one = new SandboxUsers({ runDirectory, workerId: "one", count: 10 });
  const two = new SandboxUsers({ runDirectory, workerId: "two", count: 10 });
  const users = await Promise.all(
    Array.from({ length: 10 }, (_, index) => (index % 2 ? one : two).acquire()),
  );
  expect(new Set(users.map(({ uid }) => uid)).size).toBe(10);
  expect(users.every(({ uid, gid }) => uid === gid && uid >= 200_000)).toBe(true);
  await expect(one.acquire()).rejects.toThrow(SandboxUsersExhaustedError);

  const [first] = users;
  if (first) await two.release(first);
  expect(await one.acquire()).toEqual(first);
});

test("closing releases what is the worker's own", async () => {
  const one = new SandboxUsers({ runDirectory, workerId: "one" });
  const two = new SandboxUsers({ runDirectory, workerId: "two" });
  const first = await one.acquire();
  const kept = await two.acquire();
  await one.close();
  expect((await readdir(join(runDirectory, "users"))).sort()).toEqual([".two", String(kept.uid)]);
  expect(await one.acquire()).toEqual(first);
});

test("fleets of other run directories have other ranges", async () => {
  const here = await new SandboxUsers({ runDirectory, workerId: "one" }).acquire();
  const elsewhere = join(runDirectory, "elsewhere");
  const there = await new SandboxUsers({ runDirectory: elsewhere, workerId: "one" }).acquire();
  expect(Math.abs(here.uid - there.uid) % 1_000).toBe(0);
  expect(here.uid).not.toBe(there.uid);
});
