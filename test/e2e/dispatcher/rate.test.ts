import { deriveSessionId, QUEUE_PREFIX, queueNames, tenantKeys } from "@longshore/shared";
import { type Job, Queue } from "bullmq";
import { describe, expect, it } from "vitest";
import { call, message, until } from "./client.ts";
import { DispatcherStack, keys } from "./dispatcher-stack.ts";

const session = (tenant: string, agent: string, conversation: string) =>
  deriveSessionId("shared", { tenant, agent, channel: "http", conversation });

describe("a tenant's messages a minute", () => {
  it("are bounded: 429 over HTTP, and jobs wait in line while other tenants' pass", async () => {
    await using stack = await DispatcherStack.start({ limits: { messagesPerMinute: 600, mailbox: 1_000 } });
    const inbound = new Queue(queueNames.inbound, {
      connection: stack.worker.redis,
      prefix: QUEUE_PREFIX,
    });
    const { messageRate, throttledJobs } = tenantKeys("acme");
    const { redis } = stack.worker;
    const [first] = await Promise.all([stack.dispatcher(), stack.dispatcher()]);
    // As if 595 had come 50 seconds ago: time enough for what is asked of a throttled tenant.
    const then = Math.floor(Date.now() / 1_000) - 50;
    await redis.hset(messageRate, { from: then, total: 595, [then]: 595 });

    const send = (id: string) =>
      call(`${first.url}/v1/messages`, { body: message(id, { conversation: "http" }) });
    for (let id = 0; id < 5; id++) expect(await send(String(id))).toMatchObject({ status: 202 });
    const refused = await send("one too many");
    expect(refused).toMatchObject({ status: 429, body: { code: "RATE_LIMITED" } });
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
    // What was accepted gets its answer again.
    expect(await send("0")).toMatchObject({ status: 202, body: { duplicate: true } });
    const other = { body: message("1", { agent: "stranger" }), key: keys.other };
    expect(await call(`${first.url}/v1/messages`, other)).toMatchObject({ status: 202 });

    const ids = Array.from({ length: 30 }, (_, index) => String(index));
    await inbound.addBulk(
      ids.map((id) => ({ name: "m", data: { ...message(id, { text: id }), tenant: "acme" } })),
    );
    await inbound.add("m", { ...message("behind", { agent: "stranger", text: "passes" }), tenant: "other" });
    await until(
      () => stack.worker.state.readMailbox(session("other", "stranger", "c"), 10),
      (waiting) => waiting.some(({ text }) => text === "passes"),
    );
    const removed = await until(
      () => redis.zrange(throttledJobs, "0", "-1"),
      (line) => line.length > 2,
    );
    // Somebody removes one from the queue: the line goes on.
    const gone = removed[1] as string;
    const { text: goneText } = ((await inbound.getJob(gone)) as Job<{ text: string }>).data;
    await inbound.remove(gone);

    const accepted = await until(
      () => stack.worker.state.readMailbox(session("acme", "helper", "c"), 100),
      (waiting) => waiting.length === 29,
    );
    expect(accepted.map(({ text }) => text)).toEqual(ids.filter((id) => id !== goneText));
    await until(
      () => redis.zcard(throttledJobs),
      (standing) => standing === 0,
    );
    await inbound.close();
  });
});
