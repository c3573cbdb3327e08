import { mkdir, mkdtemp, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { LocalFleet } from "../../../infra/setup/local-fleet.ts";
import { ScratchDirectory } from "../../../infra/setup/scratch-directory.ts";
import { longshore } from "./longshore.ts";

let stack: AsyncDisposableStack;
let fleet: LocalFleet;
let directory: string;

beforeAll(async () => {
  stack = new AsyncDisposableStack();
  const scratch = stack.use(await ScratchDirectory.create());
  directory = scratch.path;
  fleet = stack.use(
    await LocalFleet.start(
      { report: () => undefined },
      {
        sandbox: {
          runtime: "docker",
          engine: required("DOCKER_HOST"),
          image: required("LONGSHORE_TEST_IMAGE"),
        },
        directory: join(directory, "fleet"),
        port: 0,
      },
    ),
  );
  await fleet.startWorker();
});
afterAll(() => stack.disposeAsync());

function required(name: "DOCKER_HOST" | "LONGSHORE_TEST_IMAGE"): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run these tests by \`npm test\``);
  return value;
}

const environment = () => ({ ...fleet.environment, LONGSHORE_URL: fleet.url, LONGSHORE_KEY: fleet.key });
const cli = (args: readonly string[], input?: string) =>
  longshore(args, { environment: environment(), ...(input === undefined ? {} : { input }) });

describe("send", () => {
  it("writes the reply and nothing else where no terminal watches", async () => {
    expect(await cli(["send", "--conversation", "plain", "$ echo one; echo two >&2"])).toEqual({
      status: 0,
      stdout: "one\ntwo\n",
      stderr: "",
    });
  });

  it("streams the work to standard error and the answer to standard output", async () => {
    const { status, stdout, stderr } = await cli([
      "send",
      "--stream",
      "--conversation",
      "stream",
      "$ echo one",
    ]);
    expect({ status, stdout, stderr }).toEqual({
      status: 0,
      stdout: "one\n",
      stderr: "· echo one\n  | one\n",
    });
  });

  it("gives one JSON value with --json", async () => {
    const { stdout } = await cli(["--json", "send", "--conversation", "json", "$ echo one"]);
    expect(JSON.parse(stdout)).toMatchObject({ state: "answered", replies: [{ text: "one\n" }] });
  });

  it("takes the text from standard input, and attaches files", async () => {
    const file = join(directory, "numbers.txt");
    await writeFile(file, "1\n2\n3\n");
    const { status, stdout } = await cli(
      ["send", "--conversation", "attach", "--attach", file, "-"],
      "$ awk '{all += $1} END {print all}' /session/inbox/*/numbers.txt",
    );
    expect({ status, stdout }).toEqual({ status: 0, stdout: "6\n" });
  });

  it("sends a message once, however often it is told to by the same id", async () => {
    const again = () =>
      cli(["send", "--conversation", "twice", "--id", "only", "$ echo x >> count; cat count"]);
    expect((await again()).stdout).toBe("x\n");
    expect((await again()).stdout).toBe("x\n");
  });

  it("leaves with the message's id once it is accepted", async () => {
    const { status, stdout } = await cli(["send", "--no-wait", "--conversation", "no-wait", "hello"]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^[a-z2-7]{26}-[a-z2-7]{26}\n$/);
  });

  it("stops waiting in time, and says that the message goes on", async () => {
    const { status, stderr } = await cli(["send", "--timeout", "1", "--conversation", "slow", "$ sleep 20"]);
    expect(status).toBe(1);
    expect(stderr).toContain("[WAIT_TIMEOUT]");
  });

  it("fails where the message is given up on", async () => {
    const { status, stderr } = await cli(["send", "--conversation", "dead", "!error boom"]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/boom .*\[MESSAGE_DEAD\]/);
  });

  it.each<[string, readonly string[], NodeJS.ProcessEnv, string]>([
    ["a wrong key", [], { LONGSHORE_KEY: "wrong" }, "UNAUTHENTICATED"],
    ["an unknown agent", ["--agent", "nobody"], {}, "UNKNOWN_AGENT"],
    ["an unknown channel", ["--channel", "nowhere"], {}, "UNKNOWN_CHANNEL"],
    [
      "an address where no dispatcher is",
      [],
      { LONGSHORE_URL: "http://127.0.0.1:2" },
      "DISPATCHER_UNREACHABLE",
    ],
    ["an address that is none", [], { LONGSHORE_URL: "here" }, "INVALID_CONFIGURATION"],
  ])("says what is wrong with %s", async (_what, args, change, code) => {
    const { status, stdout, stderr } = await longshore(["send", ...args, "hello"], {
      environment: { ...environment(), ...change },
    });
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    expect(stderr).toContain(`[${code}]`);
  });

  it("reads the key from a file, and gives errors as JSON with --json", async () => {
    const file = join(directory, "key");
    await writeFile(file, `${fleet.key}\n`);
    const { LONGSHORE_KEY: _, ...keyless } = environment();
    const send = (...args: string[]) =>
      longshore(["--json", ...args, "send", "--no-wait", "--conversation", "key", "hi"], {
        environment: keyless,
      });
    expect((await send("--key-file", file)).status).toBe(0);
    const { status, stderr } = await send();
    expect(status).toBe(1);
    expect(JSON.parse(stderr)).toMatchObject({ error: { code: "UNAUTHENTICATED" } });
  });
});

it("talks line by line, and goes on after a failure", async () => {
  const { status, stdout, stderr } = await cli(
    ["chat", "--conversation", "chat"],
    "$ echo one > f\n!error boom\n\n$ cat f\n/quit\n$ echo not sent\n",
  );
  expect(status).toBe(0);
  expect(stdout).toMatch(/^\s*This message could not be answered.*\none\n$/);
  expect(stderr).toContain("[MESSAGE_DEAD]");
});

it("answers what the agent asks with the next line", async () => {
  const question = JSON.stringify({ question: "Delete it?", options: ["yes", "no"] });
  const { status, stdout } = await cli(
    ["chat", "--conversation", "question"],
    `!tool ask_user ${question}\n2\n$ echo end\n`,
  );
  expect(status).toBe(0);
  const lines = stdout.split("\n").filter((line) => line.trim() !== "");
  expect(lines.slice(0, 3)).toEqual(["Delete it?", "1. yes", "2. no"]);
  expect(JSON.parse(lines[3] ?? "")).toEqual({ answered: true, answer: "2", option: "no" });
  expect(lines.slice(4)).toEqual(["end"]);
});

describe("sessions", () => {
  let sessionId: string;

  beforeAll(async () => {
    const make =
      "$ mkdir d; printf content > d/file; chmod 640 d/file; ln -s ../nowhere link; printf x > 'a b\\c'";
    const { stdout } = await cli(["--json", "send", "--conversation", "files", make]);
    sessionId = JSON.parse(stdout).sessionId;
    await cli(["send", "--conversation", "files", "$ printf changed > d/file"]);
  });

  it("are listed", async () => {
    expect((await cli(["sessions", "ls"])).stdout).toContain(`${sessionId}  helper`);
    const { stdout } = await cli(["--json", "sessions", "ls", "--limit", "1"]);
    expect(JSON.parse(stdout)).toHaveLength(1);
  });

  it("are shown with their generations", async () => {
    const { stdout } = await cli(["--json", "sessions", "show", sessionId]);
    expect(JSON.parse(stdout)).toMatchObject({ sessionId, agent: "helper" });
    const numbers = JSON.parse(stdout).generations.map(
      ({ generation }: { generation: number }) => generation,
    );
    expect(numbers.slice(-2)).toEqual([2, 1]);
  });

  it("have files, of each generation", async () => {
    expect((await cli(["sessions", "files", sessionId])).stdout).toMatch(/^0640 +7 .* workspace\/d\/file$/m);
    expect((await cli(["sessions", "cat", sessionId, "workspace/d/file"])).stdout).toBe("changed");
    const old = ["--generation", "1"];
    expect((await cli(["sessions", "cat", sessionId, "/session/workspace/d/file", ...old])).stdout).toBe(
      "content",
    );
    const { status, stderr } = await cli(["sessions", "cat", sessionId, "workspace/other"]);
    expect(status).toBe(1);
    expect(stderr).toContain("[FILE_NOT_FOUND]");
  });

  it("are pulled", async () => {
    const copy = join(directory, "copy");
    const { status, stdout } = await cli(["sessions", "pull", sessionId, copy, "--generation", "1"]);
    expect(status).toBe(0);
    expect(stdout).toContain("of generation 1");
    expect(await readFile(join(copy, "workspace/d/file"), "utf8")).toBe("content");
    expect((await stat(join(copy, "workspace/d/file"))).mode & 0o777).toBe(0o640);
    expect(await readlink(join(copy, "workspace/link"))).toBe("../nowhere");
    expect(await readFile(join(copy, "workspace/a b\\c"), "utf8")).toBe("x");
  });
});

describe("doctor", () => {
  it("finds a fleet in order", async () => {
    const { status, stdout } = await cli(["--json", "doctor"]);
    expect(status).toBe(0);
    const findings = JSON.parse(stdout) as { check: string; status: string }[];
    expect(findings.filter(({ status }) => status === "failed")).toEqual([]);
    const checks = findings.map(({ check }) => check);
    for (const check of [
      "configuration",
      "redis durability",
      "redis eviction",
      "object store latency",
      "docker",
    ])
      expect(checks).toContain(check);
  });

  it("says what is wrong with each part, and how to mend it", async () => {
    const home = await mkdtemp(join(tmpdir(), "longshore-doctor-"));
    stack.defer(() => rm(home, { recursive: true }));
    await mkdir(join(home, "store"));
    const configuration = parse(
      await readFile(fleet.environment.LONGSHORE_CONFIG as string, "utf8"),
    ) as object;
    const path = join(home, "longshore.yaml");
    await writeFile(path, stringify({ ...configuration, access: { "/**": "r--" } }));
    const { status, stdout, stderr } = await longshore(["doctor"], {
      environment: {
        ...environment(),
        LONGSHORE_CONFIG: path,
        REDIS_URL: "redis://user:hunter2@127.0.0.1:1",
        OBJECT_STORE_URL: "s3://bucket",
        S3_ENDPOINT: "http://127.0.0.1:1",
        AWS_ACCESS_KEY_ID: "id",
        AWS_SECRET_ACCESS_KEY: "hunter2hunter2",
        DOCKER_HOST: "unix:///nowhere/docker.sock",
        LONGSHORE_RUN_DIR: home,
      },
    });
    expect(status).toBe(1);
    expect(stdout).toMatch(/^failed +redis +127\.0\.0\.1:1 .* — start Redis/m);
    expect(stdout).toMatch(/^failed +object store .* — check OBJECT_STORE_URL/m);
    expect(stdout).toMatch(/^failed +docker .* — start a Docker engine/m);
    expect(stdout).toMatch(
      /^warning +access +nothing keeps the agent helper from executing what is in \/ —/m,
    );
    expect(stderr).toContain("[NOT_READY]");
    expect(stdout + stderr).not.toContain("hunter2");
  });
});

describe("usage", () => {
  it.each([
    [["send"]],
    [["nothing"]],
    [["sessions", "cat", "x"]],
    [["send", "--timeout", "soon", "x"]],
    [["sessions", "show", "../x"]],
  ])("%j is refused with 2", async (args) => {
    const { status, stdout, stderr } = await cli(args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).not.toBe("");
  });

  it("--help is no failure", async () => {
    expect(await cli(["--help"])).toMatchObject({ status: 0, stderr: "" });
  });
});
