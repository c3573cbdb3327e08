import { expect, it } from "vitest";
import { Fleet } from "../../support/fleet.ts";
import { ReplyReceiver } from "../../support/reply-receiver.ts";

/** The receiver's answers before it is well: errors, a cut connection. */
const TROUBLE = [500, 0, 503, 0, 429];

it("a webhook gets each reply signed, in order, under one key, although it fails for a while (I6)", async () => {
  await using receiver = await ReplyReceiver.start();
  const trouble = [...TROUBLE];
  receiver.status = () => trouble.shift() ?? 200;
  await using fleet = await Fleet.start({ channels: { hook: receiver.channel } });
  // Two of them, so that no two deliver the same.
  const [{ api }] = await Promise.all([
    fleet.startDispatcher(),
    fleet.startDispatcher(),
    fleet.startWorker(),
  ]);
  const ids = ["1", "2", "3", "4", "5"];
  const sent = [];
  for (const id of ids) sent.push(await api.send("c", id, `$ echo ${id}`, { channel: "hook" }));
  await receiver.received(ids.length, ({ status }) => status === 200);

  expect(receiver.taken.map(({ reply }) => reply.text.trim())).toEqual(ids);
  expect(receiver.taken.map(({ reply }) => reply.inReplyTo)).toEqual(
    sent.map(({ messageId }) => [messageId]),
  );
  expect(receiver.calls.every(({ isSigned }) => isSigned)).toBe(true);
  // What failed was the first reply, each time, and its key stayed the same.
  const failed = receiver.calls.filter(({ status }) => status !== 200);
  expect(failed.map(({ key }) => key)).toEqual(TROUBLE.map(() => receiver.taken[0]?.key));
  for (const { key, reply } of receiver.calls) expect(key).toBe(reply.id);
  expect(new Set(receiver.taken.map(({ key }) => key)).size).toBe(ids.length);
});
