import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Api } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet, required } from "../../support/fleet.ts";
import { type Hold, HoldingProxy } from "../../support/holding-proxy.ts";
import { mailboxRunner } from "../../support/mailbox-runner.ts";

const memory = (more: object = {}) => ({ name: "memory", target: "/session/workspace/memory", ...more });
const own = { name: "persistent/{user}", target: "/session/workspace/own" };
const bob = { sender: { id: "bob" } };

/** Says a message, and gives what was answered. */
async function ask(api: Api, conversation: string, id: string, text: string, more = {}): Promise<string> {
  const answer = await api.ask(conversation, id, text, more);
  expect(answer).toMatchObject({ state: "answered" });
  return (answer.replies ?? []).map((reply) => reply.text.trim()).join();
}

const prompted = (worker: AppProcess, after = 0) => worker.line(({ msg }) => msg === "prompt sent", after);

describe.each(["docker", "bwrap"] as const)("volumes, %s", (runtime) => {
  let fleet: Fleet;
  let api: Api;
  beforeAll(async () => {
    fleet = await Fleet.start({
      runtime,
      agent: { volumes: [own, memory()], linger: "0s" },
      agents: {
        reader: { volumes: [memory({ mode: "ro" })] },
        claw: {
          ...{ contract: "mailbox-db", command: mailboxRunner },
          volumes: [{ name: "claw", target: "/session/workspace/memory" }],
        },
      },
    });
    [{ api }] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
  });
  afterAll(() => fleet[Symbol.asyncDispose]());

  it("outlive sessions, are their user's, and are no part of a session", async () => {
    expect(
      await ask(api, "c", "1", "$ ls -A own memory; mkdir own/d; echo a > own/d/f; echo m > memory/f"),
    ).toBe("memory:\n\nown:");
    // Another session of hers, and one of another user.
    expect(await ask(api, "d", "1", "$ cat own/d/f memory/f; rm -r own/d; ln -s f memory/l")).toBe("a\nm");
    expect(await ask(api, "c", "2", "$ ls -A own; readlink memory/l; touch mine")).toBe("f");
    expect(await ask(api, "e", "1", "$ ls -A own; cat memory/f", bob)).toBe("m");
    const { sessionId } = await api.send("c", "3", "$ true");
    const { files, external } = await api.json<{ files: { path: string }[]; external: unknown }>(
      "GET",
      `/v1/sessions/${sessionId}/files?under=workspace`,
    );
    expect(external).toEqual([
      { path: "workspace/own", kind: "volume", mode: "rw" },
      { path: "workspace/memory", kind: "volume", mode: "rw" },
    ]);
    expect(files.map(({ path }) => path)).toEqual(["workspace", "workspace/mine"]);
  });

  it("are not written by an upload into the session: it would be seen by nobody", async () => {
    const { sessionId } = await api.ask("c", "upload", "$ true");
    const answer = await api.request("PUT", `/v1/sessions/${sessionId}/files/workspace/memory/f`, "x");
    expect(await answer.json()).toMatchObject({ code: "PATH_EXCLUDED" });
  });

  it("are seen where an agent with two databases works", async () => {
    const script = `fs.appendFileSync("memory/f", "x"); say(fs.readFileSync("/session/workspace/memory/f", "utf8"))`;
    for (const [conversation, seen] of [
      ["c", "x"],
      ["d", "xx"],
    ] as const)
      expect(await ask(api, conversation, "1", script, { agent: "claw" })).toBe(seen);
  });

  it("are only read where the definition says so", async () => {
    await ask(api, "read", "1", "$ echo one > memory/f");
    const read = "$ cat memory/f; touch memory/g 2>&1 | grep -o 'Read-only'";
    expect(await ask(api, "d", "1", read, { agent: "reader" })).toBe("one\nRead-only");
  });
});

describe("a volume", () => {
  it("shows each user of a session their own, and joins no messages of two", async () => {
    await using fleet = await Fleet.start({
      agent: { volumes: [own], busy: "coalesce", coalesce: { quiet: "300ms", longest: "3s", messages: 10 } },
    });
    const { api } = await fleet.startDispatcher();
    await fleet.startWorker();
    await ask(api, "c", "1", "$ echo of ada > own/f");
    // At once, while ada's sandbox lingers.
    const [first, second] = await Promise.all([
      ask(api, "c", "2", "$ cat own/f", bob),
      ask(api, "c", "3", "$ cat own/f"),
    ]);
    expect(first).not.toContain("of ada");
    expect(second).toBe("of ada");
  });

  it("is one session's after the other's: who lingers gives way, and who is busy is waited for", async () => {
    await using fleet = await Fleet.start({ agent: { volumes: [memory()], linger: "10m" } });
    const { api } = await fleet.startDispatcher();
    const worker = await fleet.startWorker();
    await ask(api, "c", "1", "$ echo c1 >> memory/f");
    expect(await ask(api, "d", "1", "$ echo d1 >> memory/f; cat memory/f")).toBe("c1\nd1");
    const seen = worker.lines.length;
    const busy = ask(api, "d", "2", "$ sleep 4; echo d2 >> memory/f");
    await prompted(worker, seen);
    expect(await ask(api, "c", "2", "$ echo c2 >> memory/f; cat memory/f")).toBe("c1\nd1\nd2\nc2");
    await busy;
    await worker.line(({ msg }) => /waiting for it/.test(String(msg)), seen);
  });

  it("is kept by who was slow to begin until a turn is served, whoever waits for it", async () => {
    const command = ["/bin/sh", "-c", "sleep 2; exec /usr/local/bin/node /opt/agent/main.js"];
    await using fleet = await Fleet.start({
      agent: { volumes: [memory()], command },
      worker: { lease: "3s" },
    });
    const { api } = await fleet.startDispatcher();
    await fleet.startWorker();
    const said = await Promise.all(
      ["c", "d"].map((name) => ask(api, name, "1", "$ echo x >> memory/f; wc -l < memory/f")),
    );
    expect(said.sort()).toEqual(["1", "2"]);
  });

  it("is read as it was committed last where the definition does not wait", async () => {
    await using fleet = await Fleet.start({
      agent: { volumes: [memory({ whenTaken: "ro" })], linger: "0s" },
    });
    const { api } = await fleet.startDispatcher();
    const worker = await fleet.startWorker();
    await ask(api, "c", "1", "$ echo one > memory/f");
    const seen = worker.lines.length;
    const busy = ask(api, "c", "2", "$ echo two > memory/f; sleep 5");
    await prompted(worker, seen);
    expect(await ask(api, "d", "1", "$ cat memory/f; touch memory/g 2>&1 | grep -o 'Read-only'")).toBe(
      "one\nRead-only",
    );
    await busy;
    // Given back when the writer's sandbox is gone, which nobody waits for.
    let id = 1;
    await expect
      .poll(() => ask(api, "d", `${++id}`, "$ cat memory/f; touch memory/g && echo ok"))
      .toBe("two\nok");
  });

  it("is as it was after a turn that failed, whatever failed it", async () => {
    await using fleet = await Fleet.start({
      agent: {
        volumes: [memory()],
        linger: "5s",
        retry: { attempts: 1, backoff: "100ms", longest: "1s" },
        limits: { memory: "512MiB", cpus: 2, pids: 128, disk: "1MiB" },
      },
    });
    const { api } = await fleet.startDispatcher();
    await fleet.startWorker();
    await ask(api, "c", "1", "$ echo one > memory/f");
    // Too much in the volume; then too much in the session, whose commit is to come after the volume's.
    for (const [id, where] of ["memory/big", "big"].entries()) {
      const failed = await api.ask(
        "c",
        `big${id}`,
        `$ echo two > memory/f; head -c 2000000 /dev/zero > ${where}`,
      );
      expect(failed).toMatchObject({ state: "dead", error: { code: "QUOTA_EXCEEDED" } });
    }
    expect(await ask(api, "c", "2", "$ cat memory/f")).toBe("one");
    expect(await ask(api, "d", "1", "$ cat memory/f")).toBe("one");
  });
});

/** Counts in the session and in the volume, with something too large for a commit record. */
const COUNT =
  "for d in . memory; do echo $(($(cat $d/n 2>/dev/null || echo 0) + 1)) > $d/n; done; head -c 300000 /dev/urandom > memory/noise; echo $(cat n) $(cat memory/n)";

const puts = (path: RegExp) => (traffic: { readonly from: string; readonly bytes: Buffer }) =>
  traffic.from === "client" && path.test(traffic.bytes.toString("latin1"));

const VOLUME_LOG = /^PUT \/\S*\/volumes\/memory\/log\//;
const SESSION_LOG = /^PUT \/\S*\/sessions\/[^/]+\/log\//;

/** Matches what another one matches, but for the first time. */
function second<T>(matches: (what: T) => boolean): (what: T) => boolean {
  let seen = 0;
  return (what) => matches(what) && ++seen === 2;
}

describe("a volume that is only read", () => {
  it.each([
    ["an answered turn left it, settled or not", "two", second(puts(VOLUME_LOG))],
    ["the last answered turn left it while another one is not committed", "one", puts(SESSION_LOG)],
  ])("is as %s", async (_, seen, heldAt) => {
    await using store = await HoldingProxy.start(required("S3_ENDPOINT"));
    await using fleet = await Fleet.start({
      ...{ store: "s3", agent: { volumes: [memory()], linger: "0s" } },
      agents: { reader: { volumes: [memory({ mode: "ro" })] } },
    });
    const { api } = await fleet.startDispatcher();
    const writer = await fleet.startWorker({ S3_ENDPOINT: store.url(required("S3_ENDPOINT")) });
    expect(await ask(api, "c", "1", "$ echo one > memory/f")).toBe("");
    await writer.line(({ msg, state }) => msg === "activation" && state === "ending");
    const hold = store.hold(heldAt);
    const writing = api.ask("c", "2", "$ echo two > memory/f");
    await hold.reached;
    expect(await ask(api, "d", "1", "$ cat memory/f", { agent: "reader" })).toBe(seen);
    hold.release();
    expect((await writing).state).toBe("answered");
  });
});

/** Where the worker is killed in the second turn. */
const kills: readonly (readonly [name: string, hold: (store: HoldingProxy) => Hold])[] = [
  ["while the volume is mirrored", (store) => store.hold(puts(/^PUT \/\S*\/volumes\/memory\/pack\//))],
  ["before the volume's commit", (store) => store.hold(puts(VOLUME_LOG))],
  ["before the session's commit", (store) => store.hold(puts(SESSION_LOG))],
  ["before the volume's change is settled", (store) => store.hold(second(puts(VOLUME_LOG)))],
  ["while the answer to the session's commit is lost", (store) => store.holdAnswer(puts(SESSION_LOG))],
];

describe("a volume whose worker is killed", () => {
  const opened: AsyncDisposable[] = [];
  afterEach(async () => {
    for (const resource of opened.splice(0).reverse()) await resource[Symbol.asyncDispose]();
  });

  it.each(kills)("%s has each turn once, as its session does", async (_, holdAt) => {
    const fleet = await Fleet.start({ store: "s3", agent: { volumes: [memory()], linger: "0s" } });
    const store = await HoldingProxy.start(required("S3_ENDPOINT"));
    opened.push(store, fleet);
    const { api } = await fleet.startDispatcher();
    const victim = await fleet.startWorker({ S3_ENDPOINT: store.url(required("S3_ENDPOINT")) });
    expect(await ask(api, "c", "1", `$ ${COUNT}`)).toBe("1 1");
    await victim.line(({ msg, state }) => msg === "activation" && state === "ending");
    const hold = holdAt(store);
    await api.send("c", "2", `$ ${COUNT}`);
    await hold.reached;
    await victim.kill();
    const other = api.ask("d", "1", `$ ${COUNT}`);
    await fleet.startWorker({ LONGSHORE_RUN_DIR: join(fleet.directory, "heir") });
    const again = await api.ask("c", "2", "known");
    expect(again).toMatchObject({ state: "answered", duplicate: true });
    expect((await other).state).toBe("answered");
    expect(await ask(api, "c", "3", "$ cat n memory/n")).toBe("2\n3");
  });
});
