import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Api } from "../../support/api.ts";
import { Fleet } from "../../support/fleet.ts";
import { longshore } from "../cli/longshore.ts";
import { call, until } from "../dispatcher/client.ts";

describe("what a fleet does", () => {
  let fleet: Fleet;
  let api: Api;
  let url: string;

  beforeAll(async () => {
    fleet = await Fleet.start({
      agent: { linger: "10m" },
      agents: { broken: { command: ["/bin/false"], retry: { attempts: 9, backoff: "1h", longest: "1h" } } },
    });
    ({ api } = await fleet.startDispatcher());
    url = api.url;
  });
  afterAll(() => fleet[Symbol.asyncDispose]());

  const get = async (path: string, key = fleet.key) => (await call(`${url}/v1${path}`, { key })).body;
  const sessionWhen = (sessionId: string, state: string) =>
    until(
      () => get(`/sessions/${sessionId}`),
      (session) => session.state === state,
    );

  it("is shown: sessions by their state, workers by their places, queues by their jobs", async () => {
    const { sessionId } = await api.send(
      "one",
      "1",
      "$ until [ -e /session/workspace/go ]; do sleep 0.1; done",
    );
    expect(await get(`/sessions/${sessionId}`)).toMatchObject({ state: "waiting", active: false });
    expect((await get("/workers")).workers).toEqual([]);

    const worker = await fleet.startWorker();
    const { workerId } = await worker.line(({ msg }) => msg === "worker ready");
    await worker.line(({ msg }) => msg === "prompt sent");
    expect(await get(`/sessions/${sessionId}`)).toMatchObject({ state: "running", worker: workerId });
    expect((await get("/sessions")).sessions).toMatchObject([
      { sessionId, state: "running", worker: workerId },
    ]);
    const busy = await until(
      async () => (await get("/workers")).workers,
      ([found]) => found?.activations.prompting === 1,
    );
    expect(busy).toMatchObject([{ workerId, draining: false, activations: { prompting: 1 } }]);
    expect(busy[0].sessions).toBeUndefined();
    const [seen] = (await get("/workers", fleet.operatorKey)).workers;
    expect(seen.sessions).toEqual([{ sessionId, state: "prompting" }]);
    expect(seen.places).toBeGreaterThan(0);
    const { queues } = await get("/queues", fleet.operatorKey);
    expect(queues.map(({ name }: { name: string }) => name)).toEqual(["inbound", "turns", "replies"]);
    expect(queues[1].jobs).toMatchObject({ active: 1 });

    await call(`${url}/v1/sessions/${sessionId}/cancel`, { key: fleet.key, body: {} });
    expect(await sessionWhen(sessionId, "lingering")).toMatchObject({ worker: workerId, waiting: 0 });

    const broken = await api.send("two", "1", "hello", { agent: "broken" });
    const retrying = await sessionWhen(broken.sessionId, "retrying");
    expect(Date.parse(retrying.retryAt)).toBeGreaterThan(Date.now());
    expect(retrying.worker).toBeUndefined();

    const environment = { ...process.env, LONGSHORE_URL: url, LONGSHORE_KEY: fleet.key };
    const cli = async (...args: string[]) => (await longshore(args, { environment })).stdout;
    expect(await cli("sessions", "ls")).toContain(`lingering on ${workerId}`);
    expect(await cli("sessions", "ls")).toContain(`retrying at ${retrying.retryAt}`);
    expect(await cli("workers")).toContain(`of ${seen.places} places`);
    expect(await cli("queues")).toMatch(/^inbound .*\nturns .*\nreplies .*\n$/);

    worker.signal("SIGTERM");
    expect(await worker.exited).toBe(0);
    expect((await get("/workers")).workers).toEqual([]);
    expect(await get(`/sessions/${sessionId}`)).toMatchObject({ state: "idle", active: false });
  });
});
