import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Api } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";
import { HoldingProxy } from "../../support/holding-proxy.ts";
import { expectNoTraces, hostTraces } from "../../support/host-traces.ts";

const runtimes = ["bwrap", "docker"] as const;

describe("a worker that is told to end", () => {
  let fleet: Fleet;
  let api: Api;
  let worker: AppProcess;
  let workerId: string;

  beforeAll(async () => {
    fleet = await Fleet.start({
      agent: { linger: "10m" },
      agents: Object.fromEntries(runtimes.map((runtime) => [runtime, { runtime }])),
      worker: { drain: "10s" },
    });
    [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
    workerId = (await worker.line(({ msg }) => msg === "worker ready")).workerId as string;
  });
  afterAll(() => fleet[Symbol.asyncDispose]());

  it("finishes the turns that run, ends lingering at once, hands back what takes longer than the drain", async () => {
    await Promise.all(runtimes.map((agent) => api.ask("lingers", "1", "$ echo here", { agent })));
    expect(await hostTraces(workerId, fleet.environment.LONGSHORE_RUN_DIR as string)).not.toEqual([]);
    const seen = worker.lines.length;
    const brief = await Promise.all(
      runtimes.map((agent) => api.send("brief", "1", "$ sleep 2; echo done", { agent })),
    );
    const long = await Promise.all(
      runtimes.map((agent) => api.send("long", "1", "$ sleep 13; echo done", { agent })),
    );
    for (const { messageId } of [...brief, ...long]) {
      await worker.line(
        ({ msg, messageIds }) => msg === "prompt sent" && (messageIds as string[])[0] === messageId,
        seen,
      );
    }
    worker.signal("SIGTERM");
    expect(await worker.exited).toBe(0);

    const answeredHere = worker.lines
      .slice(seen)
      .filter(({ msg }) => msg === "turn answered")
      .flatMap(({ messageIds }) => messageIds);
    expect(answeredHere.toSorted()).toEqual(brief.map(({ messageId }) => messageId).toSorted());
    await expectNoTraces(workerId, fleet.environment.LONGSHORE_RUN_DIR as string);

    await fleet.startWorker();
    for (const agent of runtimes) {
      const answered = await api.ask("long", "1", "known already", { agent });
      expect(answered).toMatchObject({ state: "answered", attempts: 0, duplicate: true });
      expect(answered.replies?.map(({ text }) => text.trim())).toEqual(["done"]);
      expect(await api.message((brief[0] as { messageId: string }).messageId)).toMatchObject({ attempts: 0 });
    }
  });
});

it("a worker that is told to end while Redis is away ends all the same, and leaves no sandbox", async () => {
  await using fleet = await Fleet.start({ agent: { linger: "10m" }, worker: { drain: "1s" } });
  const redis = await HoldingProxy.start(fleet.redis.url);
  const [{ api }, worker] = await Promise.all([
    fleet.startDispatcher(),
    fleet.startWorker({ REDIS_URL: redis.url(fleet.redis.url) }),
  ]);
  const { workerId } = await worker.line(({ msg }) => msg === "worker ready");
  await api.ask("lingers", "1", "$ echo here");
  await redis[Symbol.asyncDispose]();
  worker.signal("SIGTERM");
  // It could not end in order, and says so.
  expect(await worker.exited).toBe(1);
  await expectNoTraces(workerId as string, fleet.environment.LONGSHORE_RUN_DIR as string);
});
