import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  lutimesSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { openBackend, SessionStore } from "@longshore/session-store";
import { tenantKeys } from "@longshore/shared";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { LocalFleet } from "../../../infra/setup/local-fleet.ts";
import { ScratchDirectory } from "../../../infra/setup/scratch-directory.ts";
import { fingerprint } from "../../conformance/session-store/support.ts";
import { required } from "../../support/fleet.ts";
import { longshore } from "./longshore.ts";

// Directories between this machine and sessions, versions of them, and garbage, by the command line.

let stack: AsyncDisposableStack;
let fleet: LocalFleet;
let directory: string;

beforeAll(async () => {
  stack = new AsyncDisposableStack();
  directory = stack.use(await ScratchDirectory.create()).path;
  const sandbox = { runtime: "bwrap" as const, rootfs: required("LONGSHORE_TEST_ROOTFS") };
  fleet = stack.use(
    await LocalFleet.start(
      { report: () => undefined },
      { sandbox, directory: join(directory, "fleet"), port: 0 },
    ),
  );
  await fleet.startWorker();
});
afterAll(() => stack.disposeAsync());

const run = async (...args: string[]) => {
  const environment = { ...fleet.environment, LONGSHORE_URL: fleet.url, LONGSHORE_KEY: fleet.key };
  return await longshore(args, { environment });
};
const cli = async (...args: string[]) => {
  const { status, stdout, stderr } = await run(...args);
  if (status !== 0) throw new Error(`${args.join(" ")}: ${stderr}`);
  return stdout;
};
// biome-ignore lint/suspicious/noExplicitAny: each test says what it expects
const json = async (...args: string[]): Promise<any> => JSON.parse(await cli("--json", ...args));
const ask = (conversation: string, text: string) => cli("send", "--conversation", conversation, text);
const begin = async (conversation: string, text: string): Promise<string> =>
  (await json("send", "--conversation", conversation, text)).sessionId;

let trees = 0;
const emptyTree = () => join(directory, `tree-${trees++}`);

/** What a session directory holds, and what no one has in mind. */
function oddTree(): string {
  const root = emptyTree();
  const at = (path: string) => join(root, path);
  mkdirSync(at("workspace/deep/er"), { recursive: true });
  mkdirSync(at("workspace/empty"), { mode: 0o700 });
  writeFileSync(at("workspace/script"), "#!/bin/sh\necho pushed\n", { mode: 0o755 });
  chmodSync(at("workspace/script"), 0o755);
  writeFileSync(at("workspace/secret"), "x", { mode: 0o600 });
  writeFileSync(at("workspace/deep/er/nothing"), "");
  writeFileSync(at("workspace/large"), randomBytes(3_000_000));
  writeFileSync(at("workspace/ -rf\n*"), "name");
  writeFileSync(Buffer.concat([Buffer.from(at("workspace/")), Buffer.from([0x62, 0xff])]), "bytes");
  symlinkSync("../nowhere", at("workspace/dangling"));
  symlinkSync("/etc/passwd", at("workspace/absolute"));
  symlinkSync(Buffer.from([0x2f, 0xfe]), at("workspace/odd target"));
  utimesSync(at("workspace/secret"), 1_000_000_000, 1_000_000_000.5);
  lutimesSync(at("workspace/dangling"), 1, 86_400);
  return root;
}

/** Without times below the millisecond. */
function comparable(root: string): Record<string, string> {
  return Object.fromEntries(
    Object.entries(fingerprint(root)).map(([path, text]) => [path, text.replace(/(\d+)\d{3}( |$)/, "$1$2")]),
  );
}

it("pushes any tree by one commit, and pulls the same", async () => {
  const session = await begin("odd", "hello");
  const tree = oddTree();
  const before = (await json("sessions", "log", session)).length;
  const pushed = await json("sessions", "push", session, tree, "--exclude", "home", "--exclude", "inbox");
  expect(pushed).toMatchObject({ sessionId: session, removed: 0, leftOut: 0 });
  const log = await json("sessions", "log", session);
  expect(log.length - before).toBeLessThanOrEqual(2);
  expect(log[0]).toMatchObject({ generation: pushed.generation, kind: "upload" });

  const copy = emptyTree();
  await cli("sessions", "pull", session, copy, "--under", "workspace");
  expect(comparable(copy)).toEqual(comparable(join(tree, "workspace")));
  expect(await ask("odd", "$ ./script; cat large | wc -c")).toBe("pushed\n3000000\n");

  // The same again is nothing, and so is what comes back.
  expect(await cli("sessions", "push", session, copy, "--under", "workspace")).toBe("nothing to push\n");
  const again = await json("sessions", "pull", session, copy, "--under", "workspace", "--update");
  expect(again).toMatchObject({ files: 0, bytes: 0, removed: 0 });
});

it("pushes only what differs, says before what it would do, and deletes only when told to", async () => {
  const session = await begin("differs", "$ mkdir d; echo a > a; echo b > d/b; mkdir x; echo c > c");
  const tree = emptyTree();
  await cli("sessions", "pull", session, tree, "--under", "workspace");
  writeFileSync(join(tree, "a"), "changed\n");
  rmSync(join(tree, "d"), { recursive: true });
  rmSync(join(tree, "x"), { recursive: true });
  writeFileSync(join(tree, "x"), "a file now\n");
  const push = ["sessions", "push", session, tree, "--under", "workspace"];
  expect((await run(...push)).stderr).toContain("[PUSH_REFUSED]");
  const plan = await cli(...push, "--delete", "--dry-run");
  expect(plan.split("\n").sort()).toEqual([
    "",
    "remove  workspace/d",
    "remove  workspace/x",
    "set     workspace/a",
    "set     workspace/x",
  ]);
  const generations = (await json("sessions", "log", session)).length;
  const { generation } = await json(...push, "--delete");
  expect(await ask("differs", "$ ls; cat a x")).toBe("a\nc\nx\nchanged\na file now\n");
  expect(generation).toBeGreaterThanOrEqual(generations + 1);
  const diff = await cli(
    "sessions",
    "diff",
    session,
    "--from",
    String(generation - 1),
    "--to",
    String(generation),
  );
  expect(diff).toMatch(/^M {2}workspace\/a .*content/m);
  expect(diff).toMatch(/^D {2}workspace\/d\/b /m);
  expect(diff).toMatch(/^M {2}workspace\/x .*type/m);
});

it("puts a file, shows the log, rolls back and forks", async () => {
  const session = await begin("history", "$ echo one > f");
  const [first] = await json("sessions", "log", session);
  const file = join(directory, "script");
  writeFileSync(file, "#!/bin/sh\necho two\n");
  chmodSync(file, 0o755);
  const put = await json("sessions", "put", session, file, "workspace/f");
  expect(put.generation).toBeGreaterThan(first.generation);
  expect(await ask("history", "$ ./f")).toBe("two\n");
  const back = await json("sessions", "rollback", session, String(first.generation));
  expect(await ask("history", "$ cat f")).toBe("one\n");
  const log = await cli("sessions", "log", session);
  expect(log).toMatch(new RegExp(`^${back.generation} .* rollback `, "m"));
  expect(log).toMatch(/ upload +\+1 -0 /);

  const fork = await json(
    "sessions",
    "fork",
    session,
    "--generation",
    String(put.generation),
    "--conversation",
    "fork",
  );
  expect(await ask("fork", "$ ./f")).toBe("two\n");
  expect(await ask("history", "$ cat f")).toBe("one\n");
  const again = await run("sessions", "fork", session, "--conversation", "fork");
  expect(again).toMatchObject({ status: 1 });
  expect(again.stderr).toContain("[SESSION_EXISTS]");
  expect(fork.source).toEqual({ sessionId: session, generation: put.generation });
  expect((await run("sessions", "rollback", session, "999")).stderr).toContain("[GENERATION_NOT_FOUND]");
});

it("says why a push can't be, and leaves the session as it is", async () => {
  const session = await begin("refused", "$ echo x > file");
  const tree = emptyTree();
  mkdirSync(join(tree, "file"), { recursive: true });
  writeFileSync(join(tree, "file/below"), "x");
  // Nothing is known here of what an agent made since: the session itself refuses it.
  const { status, stderr } = await run(
    "sessions",
    "put",
    session,
    join(tree, "file/below"),
    "workspace/file/x",
  );
  expect(status).toBe(1);
  expect(stderr).toContain("[UNSAFE_PATH]");
  expect((await run("sessions", "push", session, join(directory, "nowhere"))).stderr).toContain(
    "[PUSH_REFUSED]",
  );
  execFileSync("mkfifo", [join(tree, "fifo")]);
  rmSync(join(tree, "file"), { recursive: true });
  expect(await json("sessions", "push", session, tree, "--under", "workspace")).toMatchObject({
    set: 0,
    leftOut: 1,
  });
  expect(await ask("refused", "$ cat file")).toBe("x\n");
});

describe("volumes", () => {
  it("are listed and copied as they were committed last, and not as a turn that may be undone has them", async () => {
    const backend = openBackend(fleet.environment.OBJECT_STORE_URL as string);
    const store = new SessionStore({ backend });
    const ref = { tenant: "default", volume: "persistent/http/ada" };
    const meta = (wholeGeneration: number) => ({
      ...({ epoch: 1, nonce: "n", worker: "w", kind: "turn" } as const),
      note: { sessionId: "s", epoch: 1, agent: "helper", wholeGeneration },
    });
    const here = emptyTree();
    mkdirSync(here);
    const copy = await store.hydrate(ref, undefined, here);
    writeFileSync(join(here, "f"), "one\n", { mode: 0o640 });
    await copy.commit(await copy.mirror(), meta(0));
    writeFileSync(join(here, "f"), "two\n");
    await copy.commit(await copy.mirror(), { ...meta(1), partial: true });
    copy.close();

    const listed = { tenant: "default", volume: ref.volume, generation: 1, entries: 1, totalBytes: 4 };
    expect(await json("volumes", "ls")).toEqual([expect.objectContaining(listed)]);
    expect(await cli("volumes", "ls", "--tenant", "default")).toContain("persistent/http/ada  generation 1");
    const there = emptyTree();
    expect(await json("volumes", "pull", ref.volume, there)).toMatchObject({ generation: 1, entries: 1 });
    expect(readFileSync(join(there, "f"), "utf8")).toBe("one\n");
    // The turn's own commit says that it stands: its answer is out.
    const note = { agent: "helper", ends: [], replies: [], undelivered: [], recent: [] };
    await store.commitUnchanged({ tenant: ref.tenant, sessionId: "s" }, undefined, {
      ...({ epoch: 1, nonce: "n", worker: "w", kind: "turn" } as const),
      note: { ...note, volumes: { [ref.volume]: 2 } },
    });
    await store.close();
    const later = emptyTree();
    expect(await json("volumes", "pull", ref.volume, later)).toMatchObject({ generation: 2 });
    expect(readFileSync(join(later, "f"), "utf8")).toBe("two\n");
    for (const [args, code] of [
      [["pull", ref.volume, there], "DIRECTORY_NOT_EMPTY"],
      [["pull", "nothing", emptyTree()], "NO_SUCH_VOLUME"],
      [["ls", "--tenant", "nobody"], "USAGE"],
    ] as const)
      expect((await run("volumes", ...args)).stderr, code).toContain(`[${code}`);
  });
});

describe("gc", () => {
  it("says what it would do, for one tenant or all, and leaves what is young", async () => {
    const session = await begin("garbage", "$ echo 1 > f");
    await ask("garbage", "$ echo 2 > f");
    const dry = await json("gc", "--dry-run", "--tenant", "default");
    const kept = dry.sessions.find(({ sessionId }: { sessionId: string }) => sessionId === session);
    expect(kept).toMatchObject({ tenant: "default", report: { deleted: { objects: 0 } } });
    expect(kept.report.generations).toBeGreaterThanOrEqual(2);
    expect(await cli("gc")).toContain(`${session}  `);
    expect(await cli("sessions", "cat", session, "workspace/f", "--generation", "1")).toBe("1\n");
  });

  it("marks what is superfluous, and deletes it in a run a day after", async () => {
    const session = await begin("old", "$ echo 1 > f");
    // So many that early ones are not part of the newest one's file table any more.
    for (let count = 2; count <= 40; count++) {
      const answer = await fetch(`${fleet.url}/v1/sessions/${session}/files/workspace/f`, {
        method: "PUT",
        headers: { authorization: `Bearer ${fleet.key}` },
        body: `${count}\n`,
      });
      expect(answer.status).toBe(204);
    }
    const [newest] = await json("sessions", "log", session);
    const configuration = parse(readFileSync(fleet.environment.LONGSHORE_CONFIG as string, "utf8"));
    configuration.agents.helper.retention = { generations: 1, days: 0 };
    const config = join(directory, "retention.yaml");
    writeFileSync(config, stringify(configuration));
    const gc = async (...args: string[]) => {
      const environment = { ...fleet.environment, LONGSHORE_CONFIG: config };
      const { stdout } = await longshore(["--json", "gc", ...args], { environment });
      return JSON.parse(stdout).sessions.find(
        ({ sessionId }: { sessionId: string }) => sessionId === session,
      );
    };
    // Two days go by between the runs: everything is as if it had been stored then.
    const age = () =>
      execFileSync("find", [join(directory, "fleet/store"), "-exec", "touch", "-d", "2 days ago", "{}", "+"]);
    age();
    expect((await gc("--dry-run")).report).toMatchObject({ generations: 1, deleted: { objects: 0 } });
    const marked = (await gc()).report;
    expect(marked.marked.objects).toBeGreaterThan(0);
    expect(marked.deleted.objects).toBe(0);
    age();
    const planned = (await gc("--dry-run")).report.deleted;
    expect(planned.objects).toBeGreaterThan(0);
    expect((await run("sessions", "cat", session, "workspace/f", "--generation", "5")).status).toBe(0);
    expect((await gc()).report.deleted).toEqual(planned);
    expect((await run("sessions", "cat", session, "workspace/f", "--generation", "5")).stderr).toContain(
      "[GENERATION_NOT_FOUND]",
    );
    expect(await cli("sessions", "cat", session, "workspace/f")).toBe("40\n");
    expect((await json("sessions", "log", session))[0].generation).toBeGreaterThanOrEqual(newest.generation);
    expect(await ask("old", "$ cat f")).toBe("40\n");
  });

  it("counts anew what is stored, unless it only tells", async () => {
    await begin("counted", "$ echo 1 > f");
    const redis = new Redis(fleet.environment.REDIS_URL as string);
    const { storedBytes } = tenantKeys("default");
    const wrong = 10 ** 15;
    await redis.set(storedBytes, wrong);
    await cli("gc", "--dry-run");
    expect(Number(await redis.get(storedBytes))).toBeGreaterThanOrEqual(wrong);
    await cli("gc");
    const counted = Number(await redis.get(storedBytes));
    redis.disconnect();
    expect(counted).toBeGreaterThan(0);
    expect(counted).toBeLessThan(wrong);
  });

  it("refuses a tenant that there is not", async () => {
    const { status, stderr } = await run("gc", "--tenant", "nobody");
    expect(status).toBe(2);
    expect(stderr).toContain("default");
  });
});

it("writes no bar where no terminal watches", async () => {
  const session = await begin("bar", "$ head -c 5000000 /dev/urandom > f");
  const pulled = await run("sessions", "pull", session, emptyTree());
  expect(pulled).toMatchObject({ status: 0, stderr: "" });
  expect(pulled.stdout).not.toContain("█");
  expect(readFileSync(join(directory, `tree-${trees - 1}`, "workspace/f")).length).toBe(5_000_000);
});
