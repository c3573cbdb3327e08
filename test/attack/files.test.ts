import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { World } from "../conformance/sandbox/world.ts";
import { searchScript, TAKEN } from "./scripts.ts";
import { attacked, weaken } from "./weakened.ts";

const WORD = "what-another-session-said";

/** A directory of the host, in which everybody may write. */
let host: string;

beforeEach(async () => {
  host = await mkdtemp(join(tmpdir(), "longshore-host-files-"));
  await chmod(host, 0o777);
  await writeFile(join(host, "secret"), WORD, { mode: 0o644 });
});
afterEach(() => rm(host, { recursive: true }));

/** Ways from a sandbox to a path of the host: by itself, by links, by other processes' roots and by what is mounted. */
function waysTo(path: string): string[] {
  return [
    path,
    `/proc/1/root${path}`,
    `/proc/self/root/../../../..${path}`,
    `/proc/1/cwd/../../../../../..${path}`,
    `/session/../..${path}`,
    `/.longshore/run/../../..${path}`,
    `link${path}`,
  ];
}

/** Reads what is there, writes beside it, makes other names and links of it, and tells whatever it could. */
function reachFiles(paths: readonly string[]): string {
  const each = paths.map((path) => `'${path}'`).join(" ");
  return `ln -s / link; ln -s ../../../../../../../../.. link2
    for path in ${each}; do
      cat "$path/secret" 2> /dev/null | grep -q . && echo "${TAKEN} read $path"
      (echo written > "$path/written") 2> /dev/null && echo "${TAKEN} wrote $path"
      mv "$path/secret" "$path/moved" 2> /dev/null && mv "$path/moved" "$path/secret" && echo "${TAKEN} moved in $path"
      ln "$path/secret" name 2> /dev/null && echo "${TAKEN} linked $path" && rm -f name
    done`;
}

const PLACES = [
  "", // The root itself.
  ..."bin boot dev etc home lib opt proc proc/1 proc/sys/kernel root run sbin srv sys sys/fs/cgroup usr var".split(
    " ",
  ),
  ...[".longshore", ".longshore/run"],
];
const FILES = [
  ...["etc/passwd", "etc/hosts", ".longshore/init", "proc/sysrq-trigger", "proc/sys/kernel/core_pattern"],
  "sys/power/state",
];

/** Tries to write wherever it is not its own, to mount, and to make a device. */
function writeElsewhere(root: string): string {
  const below = (names: readonly string[]) => names.map((name) => `'${root}${name}'`).join(" ");
  return `
    for directory in ${below(PLACES)}; do
      (echo x > "$directory/made") 2> /dev/null && echo "${TAKEN} $directory"
    done
    for file in ${below(FILES)}; do
      (true >> "$file") 2> /dev/null && echo "${TAKEN} $file"
    done
    mount -t tmpfs none ${root}mnt 2> /dev/null && echo "${TAKEN} mount"
    mknod device b 7 0 2> /dev/null && echo "${TAKEN} device"
    true`;
}

describe.each(attacked)("$name", (platform) => {
  async function output(world: World, script: string): Promise<string> {
    const { stdout, exit } = await world.run(script);
    expect(exit.exitCode).toBe(0);
    return stdout;
  }

  test("a host's directory is neither read nor written, by whatever path", async () => {
    const world = await World.open(platform);
    const script = `${reachFiles([...waysTo(host), `link2${host}`])}; true`;
    expect(await output(world, script)).toBe("");
    expect(await readdir(host)).toEqual(["secret"]);
    await world.close();
  });

  test("that attack bites where the sandbox is shown the directory", async () => {
    await using weakened = await weaken(platform, { directory: host });
    const world = await World.open(weakened.platform);
    const stdout = await output(world, `${reachFiles([...waysTo(host), `link2${host}`])}; true`);
    for (const path of [host, `link2${host}`, `/proc/self/root/../../../..${host}`])
      for (const what of ["read", "wrote", "moved in"])
        expect(stdout).toContain(`${TAKEN} ${what} ${path}\n`);
    expect(await readFile(join(host, "written"), "utf8")).toBe("written\n");
    await world.close();
  });

  test("another session's files are not found, nor its directory", async () => {
    const world = await World.open(platform);
    const spec = await world.spec(["true"]);
    await writeFile(join(spec.slotDirectory, "workspace", "secret"), WORD);
    const script = `${searchScript(WORD)}\n${reachFiles([join(spec.slotDirectory, "workspace")])}; true`;
    expect(await output(world, script)).toBe("searched\n");
    await world.close();
  });

  test("that attack bites where slots are in sight and open to all, and not where they are in sight only", async () => {
    const runDirectory = join(host, "run");
    await mkdir(runDirectory);
    await using weakened = await weaken(platform, { directory: host });
    const world = await World.open(weakened.platform, runDirectory);
    const labels = world.labels();
    // In the file system of its run directory: what is mounted below what a container is shown is not shown.
    const slot = await world.slot(labels.nonce, await world.users.acquire(), null);
    await writeFile(join(slot, "workspace", "secret"), WORD);
    const script = `${reachFiles([join(slot, "workspace")])}; true`;
    expect(await output(world, script)).toBe("");
    for (const directory of [slot, join(slot, "workspace")]) await chmod(directory, 0o777);
    expect(await output(world, script)).toContain(`${TAKEN} read ${slot}`);
    await world.close();
  });

  test("nothing outside of the session is written, and nothing is mounted or made a device", async () => {
    const world = await World.open(platform);
    expect(await output(world, writeElsewhere("/"))).toBe("");
    await world.close();
  });
});

test("the attack on the rest of the root bites where nothing is around it", async () => {
  // As root of the host, in a directory of its own instead of `/`: no harm is done where it succeeds.
  for (const directory of ["etc", "usr", "proc", "mnt"]) await mkdir(join(host, directory));
  const script = writeElsewhere(`${host}/`);
  const { stdout } = await promisify(execFile)("unshare", ["--mount", "sh", "-c", script], { cwd: host });
  for (const what of [join(host, "etc"), join(host, "usr"), join(host, "etc/passwd"), "mount", "device"])
    expect(stdout).toContain(`${TAKEN} ${what}\n`);
});
