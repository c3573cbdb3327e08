import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { connectRedis } from "@longshore/shared";
import { afterEach, describe, expect, it } from "vitest";
import type { Api } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";
import { Operator } from "../../support/operator.ts";
import { slotOf } from "../../support/slot.ts";

/** Goes on when the test makes `go`; adds a line first, so that what is not undone is seen. */
const LONG = "echo line >> lines; until [ -e go ]; do sleep 0.05; done; rmdir go; wc -l < lines";

describe("checkpoints", () => {
  let fleet: Fleet;
  let operator: Operator;
  let api: Api;
  let worker: AppProcess;

  async function start(agent: Readonly<Record<string, unknown>> = {}): Promise<void> {
    fleet = await Fleet.start({ agent: { checkpoint: "200ms", ...agent } });
    operator = new Operator(fleet);
    [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
  }
  afterEach(async () => {
    await operator[Symbol.asyncDispose]();
    await fleet[Symbol.asyncDispose]();
  });

  const checkpointAfter = (seen: number) => worker.line(({ msg }) => msg === "checkpoint", seen);
  const goOn = async () => mkdir(join(await slotOf(fleet), "workspace/go"));
  const answerOf = async (id: string, text: string) =>
    (await api.ask("c", id, text)).replies?.map((reply) => reply.text.trim()).join();
  const newest = async () => {
    const commit = await operator.store.readNewest(operator.session("c"));
    if (commit === undefined) throw new Error("nothing was committed");
    return commit;
  };

  it("store what a turn has done so far, and end no message", async () => {
    await start();
    const { messageId } = await api.send("c", "1", `$ ${LONG}`);
    const { generation } = await checkpointAfter(0);
    expect(generation).toBe(1);
    expect(await newest()).toMatchObject({
      generation: 1,
      kind: "checkpoint",
      partial: true,
      note: { ends: [], replies: [], wholeGeneration: 0 },
    });
    expect(await api.file(operator.session("c").sessionId, "workspace/lines")).toBe("line\n");
    expect((await api.message(messageId)).state).toBe("running");
    await goOn();
    expect(await answerOf("1", "the same id again")).toBe("1");
    const whole = await newest();
    expect(whole).toMatchObject({ kind: "turn", partial: false });
    expect(whole.note.wholeGeneration).toBeUndefined();
    expect(
      await answerOf("2", `$ ${LONG.replace("until [ -e go ]; do sleep 0.05; done; rmdir go;", "")}`),
    ).toBe("2");
  });

  it("are not made where nothing changed", async () => {
    await start();
    await api.send("c", "1", "$ until [ -e go ]; do sleep 0.05; done; rmdir go");
    // Its own history is a change; after that there is none.
    await worker.line(({ msg, state }) => msg === "activation" && state === "mirroring");
    const mirrored = () => worker.lines.filter(({ state }) => state === "mirroring").length;
    const since = mirrored();
    for (let seen = worker.lines.length; mirrored() < since + 3; seen = worker.lines.length) {
      await worker.line(({ state }) => state === "mirroring", seen);
    }
    expect(worker.lines.filter(({ msg }) => msg === "checkpoint").length).toBeLessThanOrEqual(1);
    await goOn();
    expect((await api.ask("c", "1", "again")).state).toBe("answered");
  });

  it("of a turn that fails are undone before it is tried again, and when it is given up", async () => {
    await start({ retry: { attempts: 2, backoff: "10ms", longest: "10ms" } });
    expect(await answerOf("0", "$ echo before > before")).toBe("");
    const { generation: before } = await newest();
    const { messageId, sessionId } = await api.send(
      "c",
      "1",
      `$ rm -f before; ${LONG.replace("rmdir go", "kill -9 $PPID")}`,
    );
    for (let attempt = 0, seen = 0; attempt < 2; attempt++) {
      // The turn before may have been long enough for a checkpoint of its own.
      await worker.line(
        ({ msg, generation }) => msg === "checkpoint" && (generation as number) > before,
        seen,
      );
      const { partial, note } = await newest();
      expect(partial).toBe(true);
      const whole = await operator.store.readCommit(
        { tenant: "acme", sessionId },
        note.wholeGeneration as number,
      );
      expect(whole).toMatchObject({ partial: false, kind: attempt === 0 ? "turn" : "rollback" });
      // With what a first attempt left there would be two.
      expect(await api.file(sessionId, "workspace/lines")).toBe("line\n");
      await goOn();
      await worker.line(({ msg }) => msg === "turn failed", seen);
      seen = worker.lines.length;
    }
    const dead = await api.ask("c", "1", "again");
    expect(dead).toMatchObject({ messageId, state: "dead", error: { code: "AGENT_EXITED" } });
    expect(await newest()).toMatchObject({ kind: "turn", partial: false });
    expect(await answerOf("2", "$ ls; cat before")).toBe("before\nbefore");
    expect(await answerOf("3", "what do you remember?")).toContain("I remember 2 earlier messages");
  });

  it("of a first turn that fails leave the session empty", async () => {
    await start({ retry: { attempts: 1 } });
    await api.send("c", "1", `$ ${LONG.replace("rmdir go", "kill -9 $PPID")}`);
    await checkpointAfter(0);
    await goOn();
    expect((await api.ask("c", "1", "again")).state).toBe("dead");
    expect(await newest()).toMatchObject({ partial: false, entries: 0 });
    expect(await answerOf("2", "$ ls; echo here")).toBe("here");
  });

  it("are undone before an upload and before a rollback", async () => {
    await start();
    await answerOf("0", "$ echo before > before");
    await api.send("c", "1", "$ echo dirt > dirt; until [ -e go ]; do sleep 0.05; done");
    await checkpointAfter(0);
    // Its message is forgotten with all else that Redis knew, so that nothing but the checkpoint is left.
    await worker.kill();
    const redis = connectRedis(fleet.redis.url, { onError: () => undefined });
    await redis.flushall();
    redis.disconnect();
    worker = await fleet.startWorker();
    expect(await operator.upload("c", "u", [{ path: "workspace/file", content: "x" }])).toMatchObject({
      state: "answered",
    });
    expect(await answerOf("2", "$ ls")).toBe("before\nfile");
  });
});
