import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const PROGRAM = fileURLToPath(new URL("../../../packages/sandbox/dist/longshore-host", import.meta.url));

/** @param extra descriptors that it inherits beside the three */
async function run(words: readonly string[], extra = 0) {
  const pipes = Array.from({ length: 3 + extra }, () => "pipe" as const);
  const child = spawn(PROGRAM, words, { stdio: pipes });
  const read = async (stream: AsyncIterable<Buffer> | null) => {
    let text = "";
    for await (const chunk of stream ?? []) text += String(chunk);
    return text;
  };
  const [stdout, stderr, [status]] = await Promise.all([
    read(child.stdout),
    read(child.stderr),
    once(child, "close") as Promise<[number]>,
  ]);
  return { status, stdout, stderr };
}

describe("launch", () => {
  const as = ["launch", "user", "65534", "65533"];

  test("becomes a program of that user, with no other group and no capability", async () => {
    const script = "grep -E '^(Uid|Gid|Groups|Cap(Inh|Prm|Eff|Amb)):' /proc/self/status";
    const { status, stdout } = await run([...as, "--", "sh", "-c", script]);
    expect(status).toBe(0);
    const none = "0000000000000000";
    expect(stdout.replace(/[ \t]+/g, " ").trim()).toBe(
      [
        ...["Uid: 65534 65534 65534 65534", "Gid: 65533 65533 65533 65533", "Groups: "],
        ...["CapInh", "CapPrm", "CapEff", "CapAmb"].map((name) => `${name}: ${none}`),
      ].join("\n"),
    );
  });

  test("keeps the first six descriptors and no other", async () => {
    // The shell itself opens nothing for it.
    const list = ["--", "sh", "-c", "ls /proc/$$/fd; true"];
    expect((await run([...as, ...list], 20)).stdout).toBe("0\n1\n2\n3\n4\n5\n");
    // That they would be there.
    const child = spawn("sh", ["-c", "ls /proc/$$/fd | wc -l"], {
      stdio: Array.from({ length: 23 }, () => "pipe" as const),
    });
    const [seen] = (await once(child.stdout as NodeJS.ReadableStream, "data")) as [Buffer];
    expect(Number(seen)).toBeGreaterThanOrEqual(23);
  });

  test("sets limits that the program can't raise", async () => {
    const limits = ["limit", "nofile", "64", "limit", "fsize", "1048576", "limit", "core", "0"];
    const more = ["limit", "nproc", "20", "limit", "data", "268435456"];
    const script = "grep -E 'open files|file size|core|processes|data' /proc/self/limits; ulimit -n 65 2>&1";
    const { stdout } = await run([...as, ...limits, ...more, "--", "sh", "-c", script]);
    const words = stdout.replace(/ +/g, " ");
    for (const line of [
      "Max open files 64 64",
      "Max file size 1048576 1048576",
      "Max core file size 0 0",
      "Max processes 20 20",
      "Max data size 268435456 268435456",
    ])
      expect(words).toContain(line);
    expect(stdout).toMatch(/ulimit: .*(limit|permitted)/i);
  });

  test.each([
    [["group", "/nowhere/cgroup.procs"], "can't open /nowhere/cgroup.procs: No such file or directory"],
    [["limit", "nofile", "-1"], "usage"],
    [["limit", "nofile", "1x"], "usage"],
    [["limit", "files", "1"], "usage"],
    [["user", "1"], "usage"],
    [["shell", "x"], "usage"],
  ])("%j runs nothing", async (words, message) => {
    const { status, stdout, stderr } = await run(["launch", ...words, "--", "echo", "ran"]);
    expect({ status, stdout }).toEqual({ status: 125, stdout: "" });
    expect(stderr).toContain(message);
  });

  test("says which program can't be run", async () => {
    const { status, stderr } = await run([...as, "--", "/nowhere/program"]);
    expect(status).toBe(125);
    expect(stderr).toBe("longshore-host: can't run /nowhere/program: No such file or directory\n");
  });
});

describe("mount", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "longshore-host-"));
    await writeFile(join(directory, "template"), "no file system");
  });
  afterEach(() => rm(directory, { recursive: true }));

  test.each([
    ["a template that is not there", ["none", "image", ""], "can't open .*none: No such file"],
    ["a template that is none", ["template", "image", ""], "can't mount /dev/loop"],
    ["an image that is there", ["template", "template", ""], "can't open .*template: File exists"],
  ])("%s is told and mounts nothing", async (_what, paths, message) => {
    const words = paths.map((path) => join(directory, path));
    const { status, stderr } = await run(["mount", ...words, "1", "1"]);
    expect(status).toBe(125);
    expect(stderr).toMatch(new RegExp(message));
    expect(await readdir(directory)).toEqual(
      existsSync(join(directory, "image")) ? ["image", "template"] : ["template"],
    );
  });

  test("what is not mounted is told", async () => {
    const { status, stderr } = await run(["unmount", directory]);
    expect(status).toBe(125);
    expect(stderr).toContain(`can't unmount ${directory}: Invalid argument`);
  });
});
