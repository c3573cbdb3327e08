import { SessionStore } from "@longshore/session-store";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Api } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";
import { Operator } from "../../support/operator.ts";

describe("a rollback", () => {
  let fleet: Fleet;
  let operator: Operator;
  let api: Api;
  let worker: AppProcess;

  async function start(linger: string): Promise<void> {
    fleet = await Fleet.start({ agent: { linger } });
    operator = new Operator(fleet);
    [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
  }
  afterEach(async () => {
    await operator[Symbol.asyncDispose]();
    await fleet[Symbol.asyncDispose]();
  });

  const states = (state: string) =>
    worker.lines.filter(({ msg, state: entered }) => msg === "activation" && entered === state).length;
  const answerOf = async (id: string, text: string) =>
    (await api.ask("c", id, text)).replies?.map((reply) => reply.text.trim()).join();
  const newest = async () => operator.store.readNewest(operator.session("c"));

  it("of an idle session: files and memory are what they were, without a sandbox", async () => {
    await start("0s");
    await answerOf("1", "$ echo one > file; echo first > only-first");
    await worker.line(({ state }) => state === "ending");
    const seen = worker.lines.length;
    await answerOf("2", "$ echo two > file; rm only-first; mkdir later");
    await worker.line(({ state }) => state === "ending", seen);
    const opened = states("opening");
    expect(await operator.rollback("c", "r1", 1)).toMatchObject({ state: "answered", generation: 3 });
    expect(states("opening")).toBe(opened);
    expect(await newest()).toMatchObject({
      kind: "rollback",
      partial: false,
      note: { ends: [{ outcome: "answered", message: { operation: { type: "rollback", generation: 1 } } }] },
    });
    expect(await answerOf("3", "$ cat file; ls")).toBe("one\nfile\nonly-first");
    expect(await answerOf("4", "what do you remember?")).toContain("I remember 2 earlier messages");
    expect(await operator.rollback("c", "r2", 2)).toMatchObject({ state: "answered", generation: 6 });
    expect(await answerOf("5", "$ cat file; ls")).toBe("two\nfile\nlater");
  });

  it("of a live session: its sandbox ends, and the next message begins from that past", async () => {
    await start("60s");
    await answerOf("1", "$ echo one > file");
    await answerOf(
      "2",
      "$ echo two > file; (while sleep 0.1; do echo dirt >> dirt; done) > /dev/null 2>&1 &",
    );
    expect(states("opening")).toBe(1);
    expect(await operator.rollback("c", "r", 1)).toMatchObject({ state: "answered", generation: 3 });
    expect(await answerOf("3", "$ cat file; ls; sleep 0.5; ls")).toBe("one\nfile\nfile");
    expect(await answerOf("4", "what do you remember?")).toContain("I remember 2 earlier messages");
    expect(states("opening")).toBe(2);
  });

  it("to before the agent's own session began: it begins a new one", async () => {
    await start("0s");
    await operator.upload("c", "u", [{ path: "workspace/file", content: "x" }]);
    await answerOf("1", "$ true");
    const before = (await newest())?.note.agentSessionId;
    expect(before).toEqual(expect.any(String));
    expect((await operator.rollback("c", "r", 1)).state).toBe("answered");
    expect((await newest())?.note).not.toHaveProperty("agentSessionId");
    expect(await answerOf("2", "what do you remember?")).toContain("I remember 0 earlier messages");
    expect((await newest())?.note.agentSessionId).not.toBe(before);
  });

  it("is in order with messages that wait", async () => {
    await start("60s");
    await answerOf("1", "$ echo one > file");
    const second = await api.send("c", "2", "$ echo two > file; sleep 0.5; cat file");
    const rollback = await operator.submit("c", "r", { type: "rollback", generation: 1 });
    const third = await answerOf("3", "$ cat file");
    expect(third).toBe("one");
    expect((await api.message(second.messageId)).replies?.map(({ text }) => text)).toEqual(["two\n"]);
    expect((await operator.ended(rollback)).generation).toBe(3);
  });

  it.each(["0s", "60s"])(
    "to a generation that is not there says so, and harms nothing (linger: %s)",
    async (linger) => {
      await start(linger);
      await answerOf("1", "$ echo one > file");
      await answerOf("2", "$ echo two > file");
      const record = await operator.rollback("c", "r", 99);
      expect(record).toMatchObject({ state: "dead", attempts: 0, error: { code: "GENERATION_NOT_FOUND" } });
      expect(record.error?.message).toContain("99");
      expect(await answerOf("3", "$ cat file")).toBe("two");
      expect((await newest())?.note.undelivered).toEqual([]);
    },
  );

  it("to a generation beyond its retention says so", async () => {
    await start("0s");
    for (let turn = 1; turn <= 3; turn++) await answerOf(String(turn), `$ echo ${turn} > file`);
    // A store whose activations live for no time leaves nothing for the sake of its age, but what is a second old.
    await using collector = new AsyncDisposableStack();
    const { backend } = operator;
    const store = new SessionStore({ backend, threads: 1, longestActivationMs: 1 });
    collector.defer(() => store.close());
    await vi.waitFor(
      async () => {
        const retention = { generations: 1, days: 0 };
        const report = await store.collect(operator.session("c"), { retention });
        expect(report.generations).toBe(1);
      },
      { timeout: 30_000, interval: 500 },
    );
    expect(await operator.rollback("c", "r", 1)).toMatchObject({
      state: "dead",
      attempts: 0,
      error: { code: "GENERATION_NOT_FOUND" },
    });
    expect(await answerOf("4", "$ cat file")).toBe("3");
  });

  it("of a session that never was says so", async () => {
    await start("0s");
    expect(await operator.rollback("c", "r", 1)).toMatchObject({
      state: "dead",
      error: { code: "GENERATION_NOT_FOUND" },
    });
    expect(await answerOf("1", "$ echo here")).toBe("here");
  });
});
