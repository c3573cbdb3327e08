import { once } from "node:events";
import { SandboxSpecError } from "@longshore/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { platforms } from "./platforms.ts";
import { residentMegabytes } from "./resident-memory.ts";
import { eventually, readAll, readUntil, sessionFile, World } from "./world.ts";

const MIB = 1024 ** 2;

describe.each(platforms)("$name", (platform) => {
  let world: World;
  /** What is the engine's part and the same for each of its OCI runtimes. */
  const testOfEngine = test.skipIf(platform.name === "docker runsc");
  beforeAll(async () => {
    world = await World.open(platform);
  });
  afterAll(() => world.close());

  test("it is ready, and says what it is", async () => {
    const report = await world.runtime.check();
    expect(report.version).toMatch(/\d/);
    expect(report.weaknesses).toEqual(
      platform.name === "docker podman"
        ? [expect.stringContaining("user namespaces")]
        : platform.countsProcesses
          ? []
          : [expect.stringContaining("control group")],
    );
  });

  test("bytes go in and come out as they are", async () => {
    const sandbox = await world.start(["cat"]);
    const sent = Buffer.from(Array.from({ length: 3_000_000 }, (_, index) => (index * 7) % 251));
    sandbox.stdin.end(sent);
    const chunks: Buffer[] = [];
    for await (const chunk of sandbox.stdout) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).equals(sent)).toBe(true);
    expect(await sandbox.exited).toEqual({ exitCode: 0, signal: null, outOfMemory: false });
  });

  testOfEngine("input and output alternate while it lives", async () => {
    const sandbox = await world.start(["sh", "-c", 'while read line; do echo "got $line"; done; echo end']);
    sandbox.stdin.write("one\n");
    await readUntil(sandbox, "got one\n");
    sandbox.stdin.write("two\n");
    await readUntil(sandbox, "got two\n");
    sandbox.stdin.end();
    await readUntil(sandbox, "end\n");
  });

  testOfEngine.each([0, 255])("exit status %i", async (status) => {
    const { exit } = await world.run(`exit ${status}`);
    expect(exit).toEqual({ exitCode: status, signal: null, outOfMemory: false });
  });

  testOfEngine("death by a signal is told with its name", async () => {
    const { exit } = await world.run("kill -KILL $$; sleep 100");
    expect(exit).toEqual({ exitCode: 137, signal: "SIGKILL", outOfMemory: false });
  });

  testOfEngine("standard error is kept apart, its last lines are told", async () => {
    const { stdout, stderr } = await world.run(
      'i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo "error $i" >&2; done; echo out; printf "\\377\\303" >&2',
    );
    expect(stdout).toBe("out\n");
    expect(stderr).toContain("error 500");
    expect(stderr).not.toContain("error 400\n");
    expect(stderr.isWellFormed()).toBe(true);
  });

  test("environment, user, directory and host name are what was asked for and nothing else", async () => {
    process.env.LONGSHORE_CONFORMANCE_SECRET = "leaked";
    const spec = await world.spec(
      ["sh", "-c", "env; echo ---; id -u; id -g; id -G; pwd; hostname; cat /proc/1/environ"],
      {
        env: { GREETING: "hello  world\n'$x\"", PATH: "/usr/bin:/bin" },
      },
    );
    const sandbox = await world.runtime.start(spec);
    const output = await readAll(sandbox);
    await sandbox.destroy();
    const [environment = "", rest = ""] = output.split("---\n");
    expect(environment).toContain("GREETING=hello  world\n'$x\"\n");
    const names = environment.split("\n").flatMap((line) => /^([A-Z_]+)=/.exec(line)?.[1] ?? []);
    const allowed = ["GREETING", "HOME", "HOSTNAME", "OLDPWD", "PATH", "PWD", "SHLVL", "TMPDIR", "_"];
    // Podman gives every container one.
    if (platform.name === "docker podman") allowed.push("TERM");
    expect(names.filter((name) => !allowed.includes(name))).toEqual([]);
    expect(environment).toContain("HOME=/session/home\n");
    const { uid } = spec.user;
    expect(rest).toMatch(new RegExp(`^${uid}\n${uid}\n${uid}\n/session/workspace\nsandbox\n`));
    expect(output).not.toContain("leaked");
  });

  test("the session directory is written through to the slot, by the sandbox's user", async () => {
    const spec = await world.spec(["sh", "-c", "echo hello > file; cat"]);
    const sandbox = await world.runtime.start(spec);
    await eventually(async () => (await sessionFile(spec, "file")) === "hello\n", "the file on the host");
    sandbox.stdin.end();
    await sandbox.exited;
    await sandbox.destroy();
    await world.slots.remove(spec.labels.nonce);
    expect(await sessionFile(spec, "file")).toBe("");
  });

  test("512 MB that nobody reads block their writer and cost the worker nothing", async () => {
    const spec = await world.spec([
      "sh",
      "-c",
      "i=0; while [ $i -lt 512 ]; do head -c 4194304 /dev/zero; i=$((i+4)); echo $i > progress; done",
    ]);
    const sandbox = await world.runtime.start(spec);
    await once(sandbox.stdout, "readable");
    const before = residentMegabytes();
    let last = "";
    let most = 0;
    let unchanged = 0;
    await eventually(async () => {
      const progress = await sessionFile(spec, "progress");
      unchanged = progress === last ? unchanged + 1 : 0;
      last = progress;
      most = Math.max(most, process.memoryUsage.rss() / MIB);
      return unchanged === 12;
    }, "a blocked writer");
    expect(Number(last)).toBeLessThan(32);
    expect(most - before).toBeLessThan(32);

    let received = 0;
    let sampledAt = 0;
    for await (const chunk of sandbox.stdout) {
      received += (chunk as Buffer).length;
      if (received - sampledAt < 16 * MIB) continue;
      sampledAt = received;
      most = Math.max(most, residentMegabytes());
      if (received > 96 * MIB) break;
    }
    expect(most - before).toBeLessThan(32);
    await sandbox.destroy();
  });

  testOfEngine("it can be destroyed with its output unread", async () => {
    const sandbox = await world.start(["sh", "-c", "exec yes"]);
    await once(sandbox.stdout, "readable");
    await sandbox.destroy();
    expect((await sandbox.exited).signal).toBe("SIGKILL");
  });

  testOfEngine("writing to a program that ended is no exception of the worker", async () => {
    const sandbox = await world.start(["true"]);
    await sandbox.exited;
    const failed = Promise.withResolvers<unknown>();
    sandbox.stdin.write(Buffer.alloc(1024 ** 2), failed.resolve);
    await sandbox.destroy();
    expect(await failed.promise).toBeInstanceOf(Error);
  });

  testOfEngine("a wrong specification is refused before anything is made", async () => {
    const spec = await world.spec(["true"]);
    await expect(world.runtime.start({ ...spec, user: { uid: 0, gid: 0 } })).rejects.toThrow(
      SandboxSpecError,
    );
    await expect(world.runtime.start({ ...spec, workingDirectory: "x" })).rejects.toThrow(SandboxSpecError);
  });
});
