import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { Fleet } from "../../support/fleet.ts";
import { insist } from "../../support/insist.ts";
import { copyRedis } from "../../support/redis-copy.ts";
import { ReplyReceiver } from "../../support/reply-receiver.ts";
import { slotOf } from "../../support/slot.ts";

it.each([
  ["was accepted", false],
  ["was answered", true],
])(
  "Redis comes back as it was before a message %s, while its session is served: the reply to it is delivered",
  async (_, isAccepted) => {
    await using receiver = await ReplyReceiver.start();
    receiver.status = () => 503;
    await using fleet = await Fleet.start({
      agent: { linger: "10m" },
      // The copy has the lease in it, and the activation goes on.
      worker: { lease: "30s" },
      channels: { hook: receiver.channel },
    });
    const [dispatcher] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
    const send = (id: string, text: string) => dispatcher.api.send("c", id, text, { channel: "hook" });
    const answered = (messageId: string) =>
      expect.poll(async () => (await dispatcher.api.message(messageId)).state).toBe("answered");
    await answered((await send("1", "$ echo one")).messageId);
    const copy = () => copyRedis(fleet.redis, fleet.directory);
    let restore = isAccepted ? undefined : await copy();
    const { messageId } = await send("2", "$ while [ ! -e go ]; do sleep 0.05; done; echo two");
    restore ??= await copy();
    await writeFile(join(await slotOf(fleet), "workspace/go"), "");
    await answered(messageId);
    await restore();
    await insist(() => send("3", "$ echo three"));
    receiver.status = () => 200;
    await receiver.received(3, ({ status }) => status === 200);
    expect(receiver.taken.map(({ reply }) => reply.text.trim())).toEqual(["one", "two", "three"]);
  },
);
