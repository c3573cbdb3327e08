import { inboundJobSchema, QUEUE_PREFIX, queueNames } from "@longshore/shared";
import { Queue } from "bullmq";
import { expect, it } from "vitest";
import { Fleet } from "../../support/fleet.ts";
import { HoldingProxy } from "../../support/holding-proxy.ts";
import { ReplyReceiver } from "../../support/reply-receiver.ts";

it("consumers of all queues whose connections say nothing any more are noticed, and go on by themselves", async () => {
  await using receiver = await ReplyReceiver.start();
  await using fleet = await Fleet.start({ channels: { hook: receiver.channel } });
  // As when a router forgets connections: nobody is told that they are dead.
  await using proxy = await HoldingProxy.start(fleet.redis.url);
  const environment = { REDIS_URL: proxy.url(fleet.redis.url) };
  await Promise.all([fleet.startDispatcher(environment), fleet.startWorker(environment)]);
  const { hostname, port } = new URL(fleet.redis.url);
  const inbound = new Queue(queueNames.inbound, {
    connection: { host: hostname, port: Number(port) },
    prefix: QUEUE_PREFIX,
  });
  const add = async (id: string) => {
    const message = { tenant: "acme", agent: "shell", channel: "hook", conversation: "c" };
    const data = { ...message, id, sender: { id: "ada" }, text: `$ echo ${id}` };
    await inbound.add("message", inboundJobSchema.parse(data));
  };
  try {
    await add("1");
    await receiver.received(1, ({ status }) => status === 200);
    proxy.silence();
    await add("2");
    await receiver.received(2, ({ status }) => status === 200);
  } finally {
    await inbound.close();
    // They have no Redis when the proxy has gone.
    await Promise.all(fleet.processes.map((process) => process.stop()));
  }
  expect(receiver.taken.map(({ reply }) => reply.text.trim())).toEqual(["1", "2"]);
});
