import { afterEach, describe, expect, it } from "vitest";
import type { Api } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";
import { Operator } from "../../support/operator.ts";

describe("published files", () => {
  let fleet: Fleet;
  let operator: Operator;
  let api: Api;
  let worker: AppProcess;

  async function start(agent: Readonly<Record<string, unknown>> = {}): Promise<void> {
    fleet = await Fleet.start({ agent: { publish: ["workspace/site/**", "workspace/*.html"], ...agent } });
    operator = new Operator(fleet);
    [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
  }
  afterEach(async () => {
    await operator[Symbol.asyncDispose]();
    await fleet[Symbol.asyncDispose]();
  });

  const ask = async (id: string, text: string) =>
    (await api.ask("c", id, text)).replies?.map((reply) => reply.text.trim()).join();
  /** Publication follows the reply. */
  const publishedAfter = async (what: () => Promise<unknown>) => {
    const seen = worker.lines.length;
    await what();
    await worker.line(({ msg }) => msg === "files published", seen);
    return operator.published("c");
  };

  it("are put, overwritten and deleted with what is committed, whoever changed it", async () => {
    await start();
    expect(
      await publishedAfter(() =>
        ask(
          "1",
          "$ mkdir -p site/deep private; echo 1 > index.html; echo 1 > site/deep/a; echo no > private/no",
        ),
      ),
    ).toEqual({ "workspace/index.html": "1\n", "workspace/site/deep/a": "1\n" });
    expect(
      await publishedAfter(() => ask("2", "$ echo 2 > index.html; rm -r site/deep; echo b > site/b")),
    ).toEqual({ "workspace/index.html": "2\n", "workspace/site/b": "b\n" });
    expect(
      await publishedAfter(() =>
        operator.upload("c", "u", [{ path: "workspace/site/c", content: "c" }], ["workspace/site/b"]),
      ),
    ).toEqual({ "workspace/index.html": "2\n", "workspace/site/c": "c" });
    expect(await publishedAfter(() => operator.rollback("c", "r", 1))).toEqual({
      "workspace/index.html": "1\n",
      "workspace/site/deep/a": "1\n",
    });
  });

  it("are none of a checkpoint's", async () => {
    await start({ checkpoint: "200ms" });
    await api.send("c", "1", "$ echo partial > index.html; sleep 1; echo whole > index.html; sleep 1");
    await worker.line(({ msg }) => msg === "checkpoint");
    expect(await operator.published("c")).toEqual({});
    expect(await publishedAfter(() => ask("1", "again"))).toEqual({ "workspace/index.html": "whole\n" });
  });

  it("are not put again by the next activation where nothing was left to do, and follow new patterns", async () => {
    await start({ linger: "0s" });
    await publishedAfter(() => ask("1", "$ echo 1 > index.html; echo 1 > other.txt"));
    await worker.line(({ state }) => state === "ending");
    const { objects } = await operator.backend.list("acme/published/", {});
    await operator.backend.delete(objects.map(({ key }) => key));
    expect(await publishedAfter(() => ask("2", "$ echo 2 > more.html"))).toEqual({
      "workspace/more.html": "2\n",
    });

    await worker.stop();
    await fleet.configure({ publish: ["workspace/*.txt"] });
    worker = await fleet.startWorker();
    expect(await publishedAfter(() => ask("3", "$ true"))).toEqual({ "workspace/other.txt": "1\n" });
    await worker.stop();
    await fleet.configure({ publish: [] });
    worker = await fleet.startWorker();
    expect(await publishedAfter(() => ask("4", "$ true"))).toEqual({});
  });
});
