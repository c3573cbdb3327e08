import { createLogger, KnownSecrets, VolumeLeases } from "@longshore/shared";
import { Redis } from "ioredis";
import { expect, it } from "vitest";
import { Quarantine } from "../../../apps/worker/src/quarantine.ts";
import type { AppProcess, LogLine } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";
import { HoldingProxy } from "../../support/holding-proxy.ts";

/** So often may a quarantine die before it comes to the turn. */
const OPENINGS_MAX = 10;

/** Waits for the prompt of a message in a process that a worker's log speaks of: itself, or its quarantine. */
const promptOf = (worker: AppProcess, messageId: string, since = 0): Promise<LogLine> =>
  worker.line(
    ({ msg, messageIds }) => msg === "prompt sent" && (messageIds as string[]).includes(messageId),
    since,
  );

it("a message that kills its workers ends as a dead letter, takes no other one with it, and what waits behind it is served", async () => {
  await using fleet = await Fleet.start({
    agent: { linger: "0s", retry: { attempts: 2, backoff: "100ms", longest: "1s" } },
    worker: { lease: "1s" },
  });
  const { api } = await fleet.startDispatcher();
  let worker = await fleet.startWorker();
  await api.ask("poison", "0", "$ echo before > file");
  const poison = await api.send("poison", "1", "$ sleep 60");
  const behind = api.ask("poison", "2", "$ cat file");
  for (let death = 0; death < 2; death++) {
    expect((await promptOf(worker, poison.messageId)).pid).toBe(worker.pid);
    await worker.kill();
    worker = await fleet.startWorker();
  }
  // On the very worker that has the poison: it neither waits for it nor goes down with it.
  const innocent = await api.send("innocent", "1", "$ sleep 3; echo done");
  await promptOf(worker, innocent.messageId);
  let seen = 0;
  for (let death = 0; death < 2; death++) {
    const { pid } = await promptOf(worker, poison.messageId, seen);
    expect(pid).not.toBe(worker.pid);
    seen = worker.lines.length;
    process.kill(pid as number, "SIGKILL");
  }
  expect((await behind).replies?.map(({ text }) => text.trim())).toEqual(["before"]);
  const dead = await api.message(poison.messageId);
  expect(dead).toMatchObject({ state: "dead", attempts: 2, error: { code: "WORKER_KILLED" } });
  expect(dead.replies).toMatchObject([{ kind: "notice", text: expect.stringContaining("WORKER_KILLED") }]);
  expect(await api.ask("innocent", "1", "again")).toMatchObject({ state: "answered", attempts: 0 });
  // Of all the deaths' sandboxes, nothing is left to the reaper of a worker that lives.
  await worker.line(({ msg }) => msg === "removed what dead activations left");

  // One that is suspected wrongly is answered by its quarantine, which ends by itself.
  const unlucky = await api.send("unlucky", "1", "$ sleep 1; echo lucky");
  for (let death = 0; death < 2; death++) {
    await promptOf(worker, unlucky.messageId);
    await worker.kill();
    worker = await fleet.startWorker();
  }
  expect((await promptOf(worker, unlucky.messageId)).pid).not.toBe(worker.pid);
  const answered = await api.ask("unlucky", "1", "again");
  expect(answered).toMatchObject({ state: "answered", attempts: 0 });
  expect(answered.replies?.map(({ text }) => text.trim())).toEqual(["lucky"]);
  expect(await worker.line(({ msg }) => msg === "the quarantine is over")).toMatchObject({ exitCode: 0 });
});

it("a message whose workers die before they come to its turn is served in quarantine, too, and ends as a dead letter", async () => {
  await using fleet = await Fleet.start({
    agent: { linger: "0s", retry: { attempts: 2, backoff: "100ms", longest: "1s" } },
    worker: { lease: "1s" },
  });
  await using proxy = await HoldingProxy.start(fleet.redis.url);
  const environment = { REDIS_URL: proxy.url(fleet.redis.url) };
  const { api } = await fleet.startDispatcher();
  let worker = await fleet.startWorker(environment);
  await api.ask("poison", "0", "$ echo before > file");
  /** Where all is restored and the agent is up, and nobody was told that a turn has begun. */
  const beforeTurn = () =>
    proxy.hold(({ from, bytes }) => from === "client" && bytes.includes("turn.started"));
  let opened = beforeTurn();
  const poison = await api.send("poison", "1", "$ echo never");
  const behind = api.ask("poison", "2", "$ cat file");
  for (let death = 0; death < 2; death++) {
    await opened.reached;
    opened = beforeTurn();
    await worker.kill();
    worker = await fleet.startWorker(environment);
  }
  let seen = 0;
  for (let death = 0; death < OPENINGS_MAX; death++) {
    const { quarantinePid } = await worker.line(
      ({ msg }) => msg === "a message is served in quarantine",
      seen,
    );
    seen = worker.lines.length;
    await opened.reached;
    opened = beforeTurn();
    process.kill(quarantinePid as number, "SIGKILL");
  }
  opened.release();
  expect((await behind).replies?.map(({ text }) => text.trim())).toEqual(["before"]);
  expect(await api.message(poison.messageId)).toMatchObject({
    state: "dead",
    error: { code: "WORKER_KILLED" },
  });
});

it("a quarantine that has to wait says for how long: it is not begun again at once", async () => {
  await using fleet = await Fleet.start({
    agent: { volumes: [{ name: "v", target: "/session/workspace/v" }] },
  });
  const { api } = await fleet.startDispatcher();
  const { sessionId } = await api.send("c", "1", "$ true");
  const redis = new Redis(fleet.redis.url);
  await new VolumeLeases(redis).take({ tenant: "acme", volume: "v" }, { nonce: "another's" }, 60_000);
  redis.disconnect();
  const log = createLogger({ name: "test", level: "silent", secrets: new KnownSecrets() });
  const quarantine = new Quarantine({ environment: { ...process.env, ...fleet.environment }, log });
  expect(await quarantine.run(sessionId, 60_000, new AbortController().signal)).toBeGreaterThan(1_000);
});
