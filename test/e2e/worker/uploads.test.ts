import { mkdir, readdir, readlink, symlink } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import type { Api } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet, type FleetOptions } from "../../support/fleet.ts";
import { Operator } from "../../support/operator.ts";
import { slotOf } from "../../support/slot.ts";

const LIMITS = { memory: "512MiB", cpus: 2, pids: 128, disk: "1MiB" };

describe("an upload", () => {
  let fleet: Fleet;
  let operator: Operator;
  let api: Api;
  let worker: AppProcess;

  async function start(options: FleetOptions = {}): Promise<void> {
    fleet = await Fleet.start(options);
    operator = new Operator(fleet);
    [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
  }
  afterEach(async () => {
    await operator[Symbol.asyncDispose]();
    await fleet[Symbol.asyncDispose]();
  });

  const states = (state: string) =>
    worker.lines.filter(({ msg, state: entered }) => msg === "activation" && entered === state).length;
  const answerOf = async (conversation: string, id: string, text: string) =>
    (await api.ask(conversation, id, text)).replies?.map((reply) => reply.text.trim()).join();
  const newest = async (conversation: string) => {
    const commit = await operator.store.readNewest(operator.session(conversation));
    if (commit === undefined) throw new Error("nothing was committed");
    return commit;
  };

  it("into a session that never was: committed without a sandbox, and there for the first prompt", async () => {
    await start();
    const modifiedAt = "2001-02-03T04:05:06.000Z";
    const file = { path: "workspace/a/b", content: "from outside", mode: 0o640, modifiedAt };
    const record = await operator.upload("c", "u1", [file]);
    expect(record).toMatchObject({ state: "answered", generation: 1 });
    expect(states("applying")).toBe(1);
    expect(states("opening")).toBe(0);
    const { kind, note } = await newest("c");
    expect({ kind, note }).toMatchObject({
      kind: "upload",
      note: {
        ends: [{ outcome: "answered", message: { operation: { type: "upload", set: 1, remove: 0 } } }],
      },
    });
    expect(
      await answerOf(
        "c",
        "1",
        "$ cat a/b; stat -c '%n %a %Y' a/b; id -u > me; stat -c %u a a/b me | uniq | wc -l",
      ),
    ).toBe(`from outsidea/b 640 ${Date.parse(modifiedAt) / 1_000}\n1`);
  });

  it("into an idle session: the next prompt finds it, and what was removed is gone", async () => {
    await start({ agent: { linger: "0s" } });
    await answerOf("c", "1", "$ mkdir -p old/deep; echo 1 > old/deep/a; echo 2 > kept; echo 3 > file");
    await worker.line(({ state }) => state === "ending");
    const files = [{ path: "workspace/file", content: "new\n" }];
    expect(await operator.upload("c", "u1", files, ["workspace/old", "workspace/none"])).toMatchObject({
      state: "answered",
      generation: 2,
    });
    expect(await answerOf("c", "2", "$ cat file kept; ls")).toBe("new\n2\nfile\nkept");
  });

  it("into a live session: there for the next prompt, beside what a background process is at", async () => {
    await start({ agent: { linger: "60s" } });
    const inBackground = "(until [ -e signal ]; do sleep 0.05; done; cat signal > seen) > /dev/null 2>&1 &";
    await answerOf("c", "1", `$ echo mine > kept; ${inBackground}`);
    expect(await operator.upload("c", "u1", [{ path: "workspace/signal", content: "go\n" }])).toMatchObject({
      state: "answered",
      generation: 2,
    });
    expect(await answerOf("c", "2", "$ until [ -s seen ]; do sleep 0.05; done; cat seen signal kept")).toBe(
      "go\ngo\nmine",
    );
    expect(states("opening")).toBe(1);
  });

  it("into a live session that ends then: what a background process did is committed after it", async () => {
    await start({ agent: { linger: "60s" }, worker: { places: 1 } });
    await answerOf(
      "c",
      "1",
      "$ (until [ -e signal ]; do sleep 0.05; done; echo late > late) > /dev/null 2>&1 &",
    );
    await operator.upload("c", "u1", [{ path: "workspace/signal", content: "" }]);
    const slot = await slotOf(fleet);
    await expect.poll(() => readdir(join(slot, "workspace"))).toContain("late");
    // The only place is wanted.
    await answerOf("other", "1", "$ true");
    expect(await api.file(operator.session("c").sessionId, "workspace/late")).toBe("late\n");
  });

  it("while a turn runs, and messages after it: in the order in which they came", async () => {
    await start();
    const first = await api.send("c", "1", "$ until [ -e go ]; do sleep 0.05; done; cat file");
    await worker.line(({ msg }) => msg === "prompt sent");
    const upload = await operator.submitUpload("c", "u1", [{ path: "workspace/file", content: "one" }]);
    const second = await api.send("c", "2", "$ cat file");
    const again = await operator.submitUpload("c", "u2", [{ path: "workspace/file", content: "two" }]);
    const third = await api.send("c", "3", "$ cat file");
    await mkdir(join(await slotOf(fleet), "workspace/go"));
    const texts = [];
    for (const [{ messageId }, id] of [
      [first, "1"],
      [second, "2"],
      [third, "3"],
    ] as const) {
      const answer = await api.ask("c", id, "the same id again");
      expect(answer).toMatchObject({ messageId, state: "answered", duplicate: true });
      texts.push(answer.replies?.map(({ text }) => text.trim()).join());
    }
    expect(texts).toEqual([expect.stringContaining("No such file"), "one", "two"]);
    expect((await operator.ended(upload)).generation).toBe(2);
    expect((await operator.ended(again)).generation).toBe(4);
  });

  it("sent twice with one id is applied once", async () => {
    await start();
    const files = [{ path: "workspace/file", content: "x" }];
    const first = await operator.submitUpload("c", "u1", files);
    const second = await operator.submitUpload("c", "u1", files);
    expect(second).toEqual({ ...first, duplicate: true });
    await operator.ended(first);
    const third = await operator.submitUpload("c", "u1", files);
    expect(third.duplicate).toBe(true);
    expect(await newest("c")).toMatchObject({ generation: 1 });
  });

  it.each(["live", "idle"])(
    "that can't be into a %s session is a dead letter without a notice, and harms nothing",
    async (which) => {
      const linger = which === "live" ? "60s" : "0s";
      await start({ agent: { linger, limits: LIMITS, exclude: ["**/.cache"] } });
      const host = join(fleet.directory, "host");
      await mkdir(host);
      await answerOf(
        "c",
        "1",
        `$ ln -s ${host} link; echo x > file; mkdir directory; ln -s ${host}/x dangling`,
      );
      if (which === "idle") await worker.line(({ state }) => state === "ending");
      const cases: readonly (readonly [path: string, code: string, text: string])[] = [
        ["workspace/link/x", "UNSAFE_PATH", "link"],
        ["workspace/file/x", "UNSAFE_PATH", "not a directory"],
        ["workspace/directory", "UNSAFE_PATH", "directory"],
        ["workspace", "UNSAFE_PATH", "every session has a directory there"],
        ["home/.cache/pip/x", "PATH_EXCLUDED", "left out"],
      ];
      for (const [index, [path, code, text]] of cases.entries()) {
        const record = await operator.upload("c", `u${index}`, [{ path, content: "x" }]);
        expect(record, path).toMatchObject({ state: "dead", error: { code }, attempts: 0 });
        expect(record.error?.message).toContain(text);
      }
      const large = await operator.upload("c", "large", [
        { path: "workspace/large", content: Buffer.alloc(1_100_000) },
      ]);
      expect(large).toMatchObject({ state: "dead", error: { code: "QUOTA_EXCEEDED" } });
      expect(large.error?.message).toMatch(/1048576 bytes.*11\d{5}$/);
      const lost = await operator.submit("c", "lost", {
        type: "upload",
        set: [{ path: "workspace/lost", sha256: "0".repeat(64), sizeBytes: 1 }],
        remove: [],
      });
      expect(await operator.ended(lost)).toMatchObject({
        state: "dead",
        error: { code: "UPLOAD_CONTENT_LOST" },
      });
      const replaced = await operator.upload("c", "replaced", [
        { path: "workspace/dangling", content: "a file" },
      ]);
      expect(replaced.state).toBe("answered");

      expect(await answerOf("c", "2", "$ ls; cat file dangling")).toBe(
        "dangling\ndirectory\nfile\nlink\nx\na file",
      );
      expect(await readdir(host)).toEqual([]);
      expect(states("opening")).toBe(which === "live" ? 1 : 2);
      expect((await newest("c")).note.undelivered).toEqual([]);
    },
  );

  it("meets a link that a background process made since the last commit, and does not follow it", async () => {
    await start({ agent: { linger: "60s" } });
    const host = join(fleet.directory, "host");
    await mkdir(host);
    await answerOf("c", "1", "$ mkdir d");
    const workspace = join(await slotOf(fleet), "workspace");
    await symlink(host, join(workspace, "new"));
    const record = await operator.upload("c", "u1", [{ path: "workspace/new/x", content: "x" }]);
    expect(record).toMatchObject({ state: "dead", error: { code: "UNSAFE_PATH" } });
    expect(await readlink(join(workspace, "new"))).toBe(host);
    expect(await readdir(host)).toEqual([]);
    expect(await answerOf("c", "2", "$ readlink new")).toBe(host);
  });

  it("of directories and links, and of names that are no text", async () => {
    await start();
    const odd = Buffer.from("workspace/\xff", "latin1");
    const content = await operator.store.putInbound(operator.session("c"), Buffer.from("odd"));
    const submitted = await operator.submit("c", "u1", {
      type: "upload",
      set: [{ path: { base64: odd.toString("base64url") }, ...content }],
      directories: [
        { path: "workspace", mode: 0o750 },
        { path: "workspace/empty", mode: 0o700 },
      ],
      links: [{ path: "workspace/link", target: "../none" }],
      remove: [],
    });
    expect((await operator.ended(submitted)).error).toBeUndefined();
    expect(await answerOf("c", "1", "$ cat $(printf '\\377'); stat -c %a . empty; readlink link")).toBe(
      "odd750\n700\n../none",
    );
  });
});

describe("a turn above the session's quota", () => {
  it.each(["0s", "200ms"])(
    "fails with the numbers, and is not tried again (checkpoint: %s)",
    async (checkpoint) => {
      await using fleet = await Fleet.start({ agent: { limits: LIMITS, checkpoint } });
      const [{ api }] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
      await api.ask("c", "1", "$ echo before > file");
      const wait = checkpoint === "0s" ? "true" : "sleep 1000";
      const dead = await api.ask("c", "2", `$ head -c 2000000 /dev/zero > big; echo after > file; ${wait}`);
      expect(dead).toMatchObject({ state: "dead", attempts: 0, error: { code: "QUOTA_EXCEEDED" } });
      expect(dead.error?.message).toMatch(/1048576 bytes.*20\d{5}$/);
      const next = await api.ask("c", "3", "$ ls; cat file");
      expect(next.replies?.map(({ text }) => text)).toEqual(["file\nbefore\n"]);
    },
  );
});
