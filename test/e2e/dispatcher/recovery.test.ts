import { readdir } from "node:fs/promises";
import { join } from "node:path";
import {
  hashId,
  pendingKey,
  QUEUE_PREFIX,
  queueNames,
  sessionKeys,
  TENANT_GATE,
  TurnGates,
} from "@longshore/shared";
import { Queue } from "bullmq";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { HoldingProxy } from "../../support/holding-proxy.ts";
import { call, events, eventsUntil, message, until } from "./client.ts";
import { DispatcherStack } from "./dispatcher-stack.ts";

/** Of a tenant that says nothing else. */
const RUNNING_TURNS = 50;

let stack: DispatcherStack;

beforeEach(async () => {
  stack = await DispatcherStack.start();
});
afterEach(() => stack[Symbol.asyncDispose]());

const metric = async (metricsUrl: string, name: string): Promise<number> => {
  const metrics = await (await fetch(`${metricsUrl}/metrics`)).text();
  const line = metrics.split("\n").find((candidate) => candidate.startsWith(`${name} `));
  return Number(line?.split(" ").at(-1));
};

describe("the sweeper", () => {
  it("brings back the wake of a session that is full, however often who is refused tries again", async () => {
    await using full = await DispatcherStack.start({ mailbox: 1 });
    const { url } = await full.dispatcher();
    const turns = new Queue(queueNames.turns, { connection: full.worker.redis, prefix: QUEUE_PREFIX });
    expect(await call(`${url}/v1/messages`, { body: message("1") })).toMatchObject({ status: 202 });
    await turns.obliterate({ force: true });
    await until(
      async () => {
        expect(await call(`${url}/v1/messages`, { body: message("2") })).toMatchObject({ status: 429 });
        return await turns.getJobs(["prioritized"]);
      },
      (jobs) => jobs.length === 1,
    );
    await turns.close();
  });

  it("brings back the wake of every session after all were deleted, and counts what waits", async () => {
    const { url, metricsUrl } = await stack.dispatcher();
    const turns = new Queue(queueNames.turns, { connection: stack.worker.redis, prefix: QUEUE_PREFIX });
    const sessions = new Set<string>();
    for (let index = 0; index < 30; index++) {
      const { body } = await call(`${url}/v1/messages`, {
        body: message("1", { conversation: String(index) }),
      });
      sessions.add(body.sessionId);
    }
    await turns.obliterate({ force: true });
    const jobs = await until(
      () => turns.getJobs(["prioritized"]),
      (waiting) => waiting.length === sessions.size,
    );
    expect(new Set(jobs.map(({ data }) => data.sessionId))).toEqual(sessions);
    await until(
      () => metric(metricsUrl, "longshore_runnable_sessions"),
      (runnable) => runnable === sessions.size,
    );
    expect(await metric(metricsUrl, 'longshore_mailbox_messages{tenant="acme"}')).toBe(sessions.size);
    expect(await metric(metricsUrl, 'longshore_oldest_message_seconds{tenant="acme"}')).toBeGreaterThan(0);

    // No worker could serve one whose retry is not due, or that waits within its tenant's limit.
    const [retried, ...others] = sessions;
    const { redis } = stack.worker;
    const { session } = sessionKeys(retried as string);
    await redis.hset(session, "retryAt", Date.now() + 60_000);
    const gates = new TurnGates(redis, 60_000);
    const gate = { name: TENANT_GATE, limit: RUNNING_TURNS };
    const running = Array.from({ length: RUNNING_TURNS }, (_, index) => hashId("running", String(index)));
    for (const sessionId of [...running, ...others.slice(0, 2)])
      await gates.enter("acme", [gate], { permit: `permit-${sessionId}`, sessionId, sinceMs: 1 });
    await until(
      () => metric(metricsUrl, "longshore_runnable_sessions"),
      (runnable) => runnable === sessions.size - 3,
    );
    await redis.hdel(session, "retryAt");

    // One that can't be looked at keeps no other from it.
    const [first] = [...sessions].sort((a, b) => (pendingKey(a) < pendingKey(b) ? -1 : 1));
    const { outbox } = sessionKeys(first as string);
    await redis.set(outbox, "no list");
    await turns.obliterate({ force: true });
    await until(
      () => turns.getJobs(["prioritized"]),
      (waiting) => waiting.length === sessions.size - 1,
    );
    await redis.del(outbox);
    await until(
      () => turns.getJobs(["prioritized"]),
      (waiting) => waiting.length === sessions.size,
    );

    // Jobs that stay are let be: a sweep adds nothing to them.
    const sweeps = (await turns.getJobs(["prioritized"])).map(({ id }) => id).sort();
    for (const sessionId of sessions) await stack.worker.answer(sessionId);
    await until(
      () => metric(metricsUrl, "longshore_runnable_sessions"),
      (runnable) => runnable === 0,
    );
    expect((await turns.getJobs(["prioritized"])).map(({ id }) => id).sort()).toEqual(sweeps);
    await turns.close();
  });
});

describe("a dispatcher that is killed", () => {
  it("between the attachments and the acceptance leaves no half message: sent again, it is one", async () => {
    await using proxy = await HoldingProxy.start(stack.redis.url);
    const first = await stack.dispatcher({ REDIS_URL: proxy.url(stack.redis.url) });
    const attachments = [{ name: "a", data: Buffer.from("content").toString("base64") }];
    const body = message("1", { attachments });
    const acceptance = proxy.hold(
      ({ from, bytes }) => from === "client" && bytes.includes('"attachments":[{'),
    );
    const sent = call(`${first.url}/v1/messages`, { body }).catch(() => "cut off");
    await acceptance.reached;
    await first.process.kill();
    expect(await sent).toBe("cut off");
    const stored = await readdir(join(stack.directory, "store"), { recursive: true });
    expect(stored).toContainEqual(expect.stringMatching(/acme\/sessions\/.*\/inbound\/[0-9a-f]{64}-[^/]+$/));
    expect(await stack.worker.redis.keys("*:mailbox")).toEqual([]);

    const second = await stack.dispatcher();
    const answer = await call(`${second.url}/v1/messages`, { body });
    expect(answer).toMatchObject({ status: 202, body: { duplicate: false } });
    const waiting = await stack.worker.state.readMailbox(answer.body.sessionId, 10);
    expect(waiting).toMatchObject([{ attachments: [{ name: "a", sizeBytes: 7 }] }]);
  });
});

describe("Redis", () => {
  it("that hangs is answered with 503 in bounded time, and the same id may be sent again", async () => {
    const { url } = await stack.dispatcher();
    await stack.redis.signal("SIGSTOP");
    const refused = await call(`${url}/v1/messages`, { body: message("1") });
    expect(refused).toMatchObject({ status: 503, body: { code: "REDIS_UNAVAILABLE" } });
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(await call(`${url}/readyz`)).toMatchObject({ status: 503, body: { ready: false } });
    await stack.redis.signal("SIGCONT");
    const taken = await until(
      () => call(`${url}/v1/messages`, { body: message("1") }),
      ({ status }) => status === 202,
    );
    expect(await stack.worker.state.readMailbox(taken.body.sessionId, 10)).toHaveLength(1);
  });

  it("that is killed and restarted is found again, with what was accepted, by all that the process does", async () => {
    // What was answered is on the disk, also that of the last second.
    await stack.worker.redis.config("SET", "appendfsync", "always");
    const { url } = await stack.dispatcher();
    const { body } = await call(`${url}/v1/messages`, { body: message("1") });
    const stream = events(`${url}/v1/sessions/${body.sessionId}/events`);
    await stream.next();
    const following = eventsUntil(stream, "message.ended");
    await stack.redis.restart();
    await until(
      () => call(`${url}/readyz`),
      ({ status }) => status === 200,
    );
    const again = await until(
      () => call(`${url}/v1/messages`, { body: message("1") }),
      ({ status }) => status === 202,
    );
    expect(again.body).toMatchObject({ duplicate: true, seq: body.seq });
    await stack.worker.answer(body.sessionId, { replies: ["still here"] });
    expect((await following).at(-1)).toMatchObject({ event: "message.ended" });
    const inbound = new Queue(queueNames.inbound, { connection: stack.worker.redis, prefix: QUEUE_PREFIX });
    await inbound.add("m", { ...message("2"), tenant: "acme" });
    await until(
      () => inbound.getJobCounts("completed"),
      ({ completed }) => completed === 1,
    );
    await inbound.close();
    await until(
      () => stack.worker.state.inspect(body.sessionId),
      ({ undelivered }) => undelivered === 0,
    );
  });

  it("that evicts is refused at the start", async () => {
    await stack.worker.redis.config("SET", "maxmemory-policy", "allkeys-lru");
    const process = stack.launch();
    expect(await process.exited).toBe(1);
    expect(process.stderr).toContain("noeviction");
    expect(process.stderr).toContain("allkeys-lru");
  });
});

describe("the process", () => {
  it("ends waiting clients and exits 0 on SIGTERM", async () => {
    const { process, url } = await stack.dispatcher();
    const { body } = await call(`${url}/v1/messages`, { body: message("1") });
    const stream = events(`${url}/v1/messages`, { body: message("1") });
    await stream.next();
    const streamed = eventsUntil(stream, "end");
    const session = events(`${url}/v1/sessions/${body.sessionId}/events`);
    await session.next();
    const followed = eventsUntil(session, "end");
    const waited = call(`${url}/v1/messages?wait=60`, { body: message("1") });
    // It is waiting for certain when a later request has been answered by the same process.
    await call(`${url}/v1/messages/${body.messageId}`);
    expect(await process.stop()).toBe(0);
    expect((await streamed).at(-1)?.data).toMatchObject({
      reason: "shutdown",
      message: { state: "accepted" },
    });
    expect((await followed).at(-1)?.data).toEqual({ reason: "shutdown" });
    expect(await waited).toMatchObject({ status: 202, body: { state: "accepted" } });
  });

  it.each([
    ["a variable", { PORT: "eighty" }, "PORT: "],
    ["a missing file", { LONGSHORE_CONFIG: "/nonexistent.yaml" }, "/nonexistent.yaml"],
    ["a store's address", { OBJECT_STORE_URL: "ftp://x" }, "OBJECT_STORE_URL"],
  ])("exits 1 with the problem for %s", async (_what, environment, problem) => {
    const process = stack.launch(environment);
    expect(await process.exited).toBe(1);
    expect(process.stderr).toContain(problem);
    expect(process.stderr).not.toContain("    at ");
  });
});
