import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import type { Api } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet, type FleetOptions, required } from "../../support/fleet.ts";
import { type Hold, HoldingProxy } from "../../support/holding-proxy.ts";
import { Operator } from "../../support/operator.ts";

const sends =
  (method: string, path: string) => (traffic: { readonly from: string; readonly bytes: Buffer }) =>
    traffic.from === "client" && traffic.bytes.includes(`${method} /`) && traffic.bytes.includes(path);
const publishing = ({ bytes }: { readonly bytes: Buffer }) =>
  bytes.includes(":delivered") && bytes.includes(":mailbox");

describe("a worker killed", () => {
  let fleet: Fleet;
  let operator: Operator;
  let redis: HoldingProxy;
  let store: HoldingProxy;
  let api: Api;
  let victim: AppProcess;

  async function start(agent: FleetOptions["agent"] = {}): Promise<void> {
    fleet = await Fleet.start({ store: "s3", agent: { linger: "0s", ...agent } });
    operator = new Operator(fleet);
    redis = await HoldingProxy.start(fleet.redis.url);
    store = await HoldingProxy.start(required("S3_ENDPOINT"));
    ({ api } = await fleet.startDispatcher());
    victim = await fleet.startWorker({
      REDIS_URL: redis.url(fleet.redis.url),
      S3_ENDPOINT: store.url(required("S3_ENDPOINT")),
    });
  }
  afterEach(async () => {
    await operator[Symbol.asyncDispose]();
    await fleet[Symbol.asyncDispose]();
    await redis[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
  });

  const answerOf = async (id: string, text: string) =>
    (await api.ask("c", id, text)).replies?.map((reply) => reply.text.trim()).join();
  async function ask(id: string, text: string): Promise<void> {
    const seen = victim.lines.length;
    await answerOf(id, text);
    await victim.line(({ msg, state }) => msg === "activation" && state === "ending", seen);
  }
  async function succeed(hold: Hold): Promise<void> {
    await hold.reached;
    await victim.kill();
    await fleet.startWorker({ LONGSHORE_RUN_DIR: join(fleet.directory, "heir") });
  }
  /** How the generations came to be, oldest first. */
  async function kinds(): Promise<string[]> {
    const commits = await operator.store.listCommits(operator.session("c"), { limit: 50 });
    return commits.map(({ kind }) => kind).reverse();
  }

  const points: readonly (readonly [name: string, hold: () => Hold, commits: readonly string[]])[] = [
    ["before the commit", () => store.hold(sends("PUT", "/log/")), ["takeover", "OPERATION"]],
    ["when the answer to the commit is lost", () => store.holdAnswer(sends("PUT", "/log/")), ["OPERATION"]],
    ["between commit and publication", () => redis.hold(publishing), ["OPERATION"]],
    ["after the publication", () => redis.holdAnswer(publishing), ["OPERATION"]],
  ];

  it.each(points)("%s of an upload: it is applied once", async (_, holdAt, expected) => {
    await start();
    await ask("1", "$ echo kept > kept");
    const hold = holdAt();
    const submitted = await operator.submitUpload("c", "u", [{ path: "workspace/file", content: "up" }]);
    await succeed(hold);
    expect(await operator.ended(submitted)).toMatchObject({ state: "answered", attempts: 0 });
    expect((await kinds()).slice(1)).toEqual(expected.map((kind) => kind.replace("OPERATION", "upload")));
    expect(await answerOf("2", "$ cat file kept")).toBe("upkept");
  });

  it.each(points)("%s of a rollback: it is applied once", async (_, holdAt, expected) => {
    await start();
    await ask("1", "$ echo one > file");
    await ask("2", "$ echo two > file");
    const hold = holdAt();
    const submitted = await operator.submit("c", "r", { type: "rollback", generation: 1 });
    await succeed(hold);
    expect(await operator.ended(submitted)).toMatchObject({ state: "answered", attempts: 0 });
    expect((await kinds()).slice(2)).toEqual(expected.map((kind) => kind.replace("OPERATION", "rollback")));
    expect(await answerOf("3", "$ cat file")).toBe("one");
  });

  it.each([
    ["before it is committed", () => store.hold(sends("PUT", "/log/")), ["takeover"]],
    ["when its answer is lost", () => store.holdAnswer(sends("PUT", "/log/")), ["checkpoint", "rollback"]],
    ["before it is published", () => redis.hold(publishing), ["checkpoint", "rollback"]],
  ] as const)(
    "in a checkpoint, %s: the turn begins again from the whole generation",
    async (_, holdAt, between) => {
      await start({ checkpoint: "300ms" });
      await ask("1", "$ echo line > lines");
      // On a slow machine a checkpoint is among them.
      const before = (await kinds()).length;
      // Long enough for the checkpoint of the victim; the heir's run makes one too, or not.
      const hold = holdAt();
      await api.send("c", "2", "$ echo line >> lines; sleep 2; cat lines | wc -l");
      await succeed(hold);
      expect(await answerOf("2", "the same id again")).toBe("2");
      const made = await kinds();
      expect(made.slice(before, before + between.length)).toEqual(between);
      expect(made.at(-1)).toBe("turn");
      expect(await answerOf("3", "$ cat lines | wc -l")).toBe("2");
    },
  );

  it("between a commit and the publication of its files: the next activation publishes them", async () => {
    await start({ publish: ["workspace/site/**"] });
    await ask(
      "1",
      "$ mkdir site; cd site; echo 1 > changed; echo 1 > gone; echo 1 > same; echo 0 > ../private",
    );
    const before = { changed: "1\n", gone: "1\n", same: "1\n" };
    const published = async () =>
      Object.fromEntries(
        Object.entries(await operator.published("c")).map(([path, text]) => [
          path.replace("workspace/site/", ""),
          text,
        ]),
      );
    expect(await published()).toEqual(before);
    // Both files are put at once.
    const [hold, other] = [0, 1].map(() => store.hold(sends("PUT", "/published/"))) as [Hold, Hold];
    await api.ask("c", "2", "$ cd site; echo 2 > changed; rm gone; echo 2 > new");
    await Promise.all([hold.reached, other.reached]);
    expect(await published()).toEqual(before);
    await succeed(hold);
    expect(await answerOf("3", "$ cat site/changed")).toBe("2");
    expect(await published()).toEqual({ changed: "2\n", new: "2\n", same: "1\n" });
  });
});
