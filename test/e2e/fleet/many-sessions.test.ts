import { expect, it } from "vitest";
import type { Api, ApiMessage } from "../../support/api.ts";
import { Fleet, type FleetOptions } from "../../support/fleet.ts";
import { ReplyReceiver } from "../../support/reply-receiver.ts";

/** Adds one to the session's counter, and says which turn this is and of which message. */
const count = (id: string) =>
  `$ n=$(($(cat counter 2>/dev/null || echo 0) + 1)); echo $n > counter; echo turn $n of ${id}`;

interface Load {
  readonly sessions: number;
  readonly messagesEach: number;
  readonly options: FleetOptions;
}

interface Generation {
  readonly generation: number;
  readonly ends: readonly { readonly messageId: string; readonly outcome: string }[];
}

/**
 * Sends to every session at once, by turns through one dispatcher and the other; every fifth message through
 * both at the same time. Gives the answers by session.
 */
async function sendAll(apis: readonly [Api, Api], { sessions, messagesEach }: Load): Promise<ApiMessage[][]> {
  const conversations = Array.from({ length: sessions }, (_, index) => `c${index}`);
  return Promise.all(
    conversations.map(async (conversation, session) => {
      const accepted: ApiMessage[] = [];
      // Two at a time, so that it is the fleet that decides on the order and not the sender.
      for (let at = 0; at < messagesEach; at += 2) {
        const pair = [at, at + 1].filter((number) => number < messagesEach);
        const answers = await Promise.all(
          pair.map(async (number) => {
            const id = `${conversation}-${number}`;
            const [first, second] = (session + number) % 2 === 0 ? apis : [apis[1], apis[0]];
            const send = (api: Api) => api.send(conversation, id, count(id), { channel: "hook" });
            if (number % 5 !== 0) return send(first);
            const [one, other] = await Promise.all([send(first), send(second)]);
            expect([one.duplicate, other.duplicate].toSorted()).toEqual([false, true]);
            expect(other).toMatchObject({ messageId: one.messageId, seq: one.seq });
            return one;
          }),
        );
        accepted.push(...answers);
      }
      return accepted;
    }),
  );
}

it.each<[string, Load]>([
  [
    "200 messages over 20 sessions, on bwrap",
    { sessions: 20, messagesEach: 10, options: { runtime: "bwrap", store: "s3" } },
  ],
  [
    "18 messages over 6 sessions, on docker",
    { sessions: 6, messagesEach: 3, options: { runtime: "docker", store: "s3" } },
  ],
])("two workers and two dispatchers: %s: in order, each answered and published once", async (_, load) => {
  await using receiver = await ReplyReceiver.start();
  await using fleet = await Fleet.start({
    ...load.options,
    // Few enough that sessions have to give way to each other.
    worker: { places: 4 },
    channels: { hook: receiver.channel },
  });
  const [{ api }, { api: otherApi }] = await Promise.all([fleet.startDispatcher(), fleet.startDispatcher()]);
  await Promise.all([fleet.startWorker(), fleet.startWorker()]);

  const bySession = await sendAll([api, otherApi], load);

  for (const [session, messages] of bySession.entries()) {
    const inOrder = messages.toSorted((a, b) => a.seq - b.seq);
    expect(new Set(inOrder.map(({ seq }) => seq)).size).toBe(load.messagesEach);
    for (const [turn, { messageId }] of inOrder.entries()) {
      const id = `c${session}-${messages.findIndex((message) => message.messageId === messageId)}`;
      const ended = await api.ask(`c${session}`, id, "known already", { channel: "hook" });
      expect(ended, JSON.stringify(fleet.failures)).toMatchObject({
        ...{ messageId, state: "answered", attempts: 0 },
      });
      expect(ended.replies?.map(({ text }) => text.trim())).toEqual([`turn ${turn + 1} of ${id}`]);
    }
    const { sessionId } = inOrder[0] as ApiMessage;
    expect(await api.file(sessionId, "workspace/counter")).toBe(`${load.messagesEach}\n`);
    const { generations } = await api.json<{ generations: Generation[] }>(
      "GET",
      `/v1/sessions/${sessionId}/generations`,
    );
    const ended = generations.flatMap(({ ends }) => ends.map(({ messageId }) => messageId));
    expect(ended.toSorted()).toEqual(inOrder.map(({ messageId }) => messageId).toSorted());
  }

  // Each reply was called out once, and those of a session in its order (I6).
  await receiver.received(load.sessions * load.messagesEach, () => true);
  expect(new Set(receiver.calls.map(({ key }) => key)).size).toBe(receiver.calls.length);
  for (const messages of bySession) {
    const inOrder = messages.toSorted((a, b) => a.seq - b.seq).map(({ messageId }) => [messageId]);
    const { sessionId } = messages[0] as ApiMessage;
    const replies = receiver.calls.map(({ reply }) => reply).filter((reply) => reply.sessionId === sessionId);
    expect(replies.map(({ inReplyTo }) => inReplyTo)).toEqual(inOrder);
  }
  // Both workers had a part in it.
  const workers = fleet.processes.filter(({ name }) => name === "worker");
  for (const { lines } of workers) expect(lines.some(({ msg }) => msg === "turn answered")).toBe(true);
});
