import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Reaper, SESSION_DIRECTORIES, SlotDiskError, SlotDisks, Slots } from "@longshore/sandbox";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { unmountBelow } from "../../../infra/setup/mounts.ts";
import { shareMounts } from "../../support/share-mounts.ts";
import { platforms } from "./platforms.ts";
import { World } from "./world.ts";

const run = promisify(execFile);
const MIB = 1024 ** 2;
const QUOTA = { bytes: 8 * MIB, files: 100 };

let directory: string;
let runDirectory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "longshore-disk-"));
  await chmod(directory, 0o711);
  runDirectory = join(directory, "run");
  await mkdir(runDirectory);
});

afterEach(async () => {
  await unmountBelow(directory);
  await rm(directory, { recursive: true });
});

const mountsBelow = async (path: string) => {
  const lines = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
  return lines.filter((line) => line.split(" ")[4]?.startsWith(`${path}/`));
};

// What is more than the quota is refused: see `test/attack/resources.test.ts`.
describe.each(platforms.filter(({ name }) => name !== "bwrap without cgroups"))("$name", (platform) => {
  let world: World;
  beforeEach(async () => {
    await shareMounts(directory);
    world = await World.open(platform, runDirectory);
    expect(world.slots.isBounded(world.runtime.name)).toBe(true);
  });

  test("what a session may have has room, however small its files are", async () => {
    const quota = { bytes: MIB, files: 1_000 };
    const script = "head -c 1039500 /dev/zero | split --bytes 1050 --suffix-length 4 && ls | wc -l";
    const [labels, user] = [world.labels(), await world.users.acquire()];
    const slotDirectory = await world.slot(labels.nonce, user, quota);
    expect((await world.run(script, { labels, user, slotDirectory })).stdout).toBe("990\n");
    await world.close();
  });

  test("of a worker that has ended no mount is left, and its images are gone", async () => {
    const sandbox = await world.start(["sleep", "1000"]);
    expect(await mountsBelow(join(runDirectory, "workers"))).toHaveLength(1);
    // A worker that ends by itself leaves nothing of its slots, and so nothing of itself.
    const orderly = await World.open(platform, runDirectory);
    const { nonce } = orderly.labels();
    await orderly.slot(nonce, await orderly.users.acquire(), QUOTA);
    await orderly.slots.remove(nonce);
    await orderly.abandon();
    expect(await readdir(join(runDirectory, "workers"))).toEqual([world.workerId]);
    await world.abandon();
    const reap = () =>
      new Reaper({
        runtimes: [world.runtime],
        runDirectory,
        isActivationLive: async () => false,
      }).run();
    const reports = [await reap(), await reap()];
    expect(reports.flatMap(({ errors, stuck }) => [...errors, ...stuck])).toEqual([]);
    await sandbox.exited;
    expect(await mountsBelow(directory)).toEqual([]);
    expect(await readdir(join(runDirectory, "workers"))).toEqual([]);
  });
});

test("an engine is not trusted to see what is mounted where nothing says that it does", async () => {
  await run("mount", ["--bind", directory, directory]);
  await run("mount", ["--make-private", directory]);
  const disks = await SlotDisks.open(directory);
  expect(disks.isSeenBy("docker")).toBe(false);
  expect(disks.isSeenBy("bwrap")).toBe(true);
  // A copy of a shared mount that gets its mounts and passes none on, as services of systemd have.
  await run("mount", ["--make-shared", directory]);
  const inCopy = ["--mount", "--propagation", "slave", "--", process.execPath, "--input-type=module", "-e"];
  const program = `const { SlotDisks } = await import(process.argv[1]);
    process.stdout.write(String((await SlotDisks.open(process.argv[2])).isSeenBy("docker")));`;
  const sandbox = import.meta.resolve("@longshore/sandbox");
  const { stdout } = await run("unshare", [...inCopy, program, sandbox, runDirectory]);
  expect(stdout).toBe("false");
});

test("who may not mount is told so, and nothing is left", async () => {
  const program = `const { SlotDisks } = await import(process.argv[1]);
    await SlotDisks.open(process.argv[2]).catch((error) => process.stdout.write(error.code + " " + error.message));`;
  const sandbox = import.meta.resolve("@longshore/sandbox");
  const words = ["--bounding-set=-sys_admin", "--", process.execPath, "--input-type=module", "-e"];
  const { stdout } = await run("setpriv", [...words, program, sandbox, runDirectory]);
  expect(stdout).toMatch(/^SLOT_DISK_FAILED .*mount/);
  // What it had copied from is every worker's of the host.
  expect(await readdir(runDirectory)).toEqual(["templates"]);
});

test("a slot that gets no file system is not there, and says why", async () => {
  const disks = await SlotDisks.open(directory);
  const use = { quota: QUOTA, owner: { uid: 1, gid: 1 } };
  await expect(disks.mount(join(directory, "image"), join(directory, "none"), use)).rejects.toThrow(
    SlotDiskError,
  );
});

test("a slot is its owner's alone, with the directories of a session or without", async () => {
  const owner = { uid: 4_321, gid: 4_322 };
  for (const disks of [await SlotDisks.open(directory), undefined]) {
    const slots = new Slots(directory, "owned", disks);
    for (const [nonce, directories] of [
      ["session", SESSION_DIRECTORIES],
      ["volume", []],
    ] as const) {
      const path = await slots.create(nonce, owner, { runtime: "bwrap", quota: QUOTA }, directories);
      expect((await readdir(path)).sort()).toEqual([...directories].sort());
      for (const each of [path, ...directories.map((name) => join(path, name))])
        expect(await stat(each)).toMatchObject({ ...owner, mode: constants.S_IFDIR | 0o700 });
      await slots.remove(nonce);
    }
  }
});

test("sandboxes may pass to their slots whatever the worker's umask, and the trial leaves nothing", async () => {
  const program = `process.umask(0o077);
    const { SlotDisks, Slots } = await import(process.argv[1]);
    const disks = await SlotDisks.open(process.argv[2], "strict");
    await new Slots(process.argv[2], "strict", disks).create("nonce", { uid: 1, gid: 1 });`;
  const sandbox = import.meta.resolve("@longshore/sandbox");
  await run(process.execPath, ["--input-type=module", "-e", program, sandbox, runDirectory]);
  const slots = join(runDirectory, "workers/strict/slots");
  expect((await stat(slots)).mode & 0o777).toBe(0o711);
  expect(await readdir(slots)).toEqual(["nonce"]);
  expect(await readdir(join(runDirectory, "workers/strict/images"))).toEqual([]);
});
