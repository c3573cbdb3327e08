import { Redis } from "ioredis";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { Api, ApiMessage } from "../../support/api.ts";
import { Fleet } from "../../support/fleet.ts";
import { insist } from "../../support/insist.ts";

const COUNT = "$ n=$(($(cat counter 2>/dev/null || echo 0) + 1)); echo $n > counter; echo turn $n";
/** More than an activation adopts generation by generation: the first is known by the newest commit alone. */
const TURNS = 25;

interface Generation {
  readonly generation: number;
  readonly ends: readonly { readonly messageId: string }[];
}

let fleet: Fleet;
let api: Api;

beforeEach(async () => {
  fleet = await Fleet.start();
  [{ api }] = await Promise.all([fleet.startDispatcher(), fleet.startWorker(), fleet.startWorker()]);
});
afterEach(() => fleet[Symbol.asyncDispose]());

/** Every generation once, without a gap, and every message ended by one of them. */
async function expectWholeLog(sessionId: string, messages: readonly ApiMessage[]): Promise<void> {
  const { generations } = await api.json<{ generations: Generation[] }>(
    "GET",
    `/v1/sessions/${sessionId}/generations?limit=100`,
  );
  const numbers = generations.map(({ generation }) => generation).toSorted((a, b) => a - b);
  expect(numbers).toEqual(numbers.map((_, index) => index + 1));
  const ended = generations.flatMap(({ ends }) => ends.map(({ messageId }) => messageId));
  expect(ended.toSorted()).toEqual(messages.map(({ messageId }) => messageId).toSorted());
}

it("Redis restarted under load loses and doubles nothing", async () => {
  const sessions = Array.from({ length: 6 }, (_, index) => `c${index}`);
  const answered = Promise.withResolvers<void>();
  const sending = sessions.map(async (conversation) => {
    const sent: ApiMessage[] = [];
    for (let at = 1; at <= 6; at++) {
      sent.push(await insist(() => api.send(conversation, String(at), COUNT)));
      if (at === 2) {
        await insist(() => api.ask(conversation, "1", "known already"));
        answered.resolve();
      }
    }
    return sent;
  });
  // Somewhere in the middle, with turns running and messages being sent.
  await answered.promise;
  await fleet.redis.restart();
  for (const [index, messages] of (await Promise.all(sending)).entries()) {
    const conversation = sessions[index] as string;
    for (const at of messages.keys()) {
      const ended = await insist(() => api.ask(conversation, String(at + 1), "known already"));
      expect(ended).toMatchObject({ state: "answered", messageId: messages[at]?.messageId });
      expect(ended.replies?.map(({ text }) => text.trim())).toEqual([`turn ${at + 1}`]);
    }
    const { sessionId } = messages[0] as ApiMessage;
    expect(await api.file(sessionId, "workspace/counter")).toBe(`${messages.length}\n`);
    await expectWholeLog(sessionId, messages);
  }
});

it("Redis emptied between turns: what a commit answered is not answered again, and the count goes on", async () => {
  const messages: ApiMessage[] = [];
  for (let at = 1; at <= TURNS; at++) messages.push(await api.ask("c", String(at), COUNT));
  const { sessionId } = messages[0] as ApiMessage;
  const dead = await api.ask("c", "dead", "!error");
  expect(dead.state).toBe("dead");
  const redis = new Redis(fleet.redis.url);
  await redis.flushall();
  redis.disconnect();

  for (const at of [1, TURNS]) {
    const again = await insist(() => api.ask("c", String(at), COUNT));
    expect(again).toMatchObject({ messageId: messages[at - 1]?.messageId, state: "answered" });
    expect(again.replies?.map(({ text }) => text.trim())).toEqual([`turn ${at}`]);
  }
  const { messageId, state, error } = await insist(() => api.ask("c", "dead", "!error"));
  expect({ messageId, state, error }).toEqual({
    messageId: dead.messageId,
    state: "dead",
    error: dead.error,
  });
  const next = await insist(() => api.ask("c", "next", COUNT));
  expect(next.replies?.map(({ text }) => text.trim())).toEqual([`turn ${TURNS + 1}`]);
  expect(await api.file(sessionId, "workspace/counter")).toBe(`${TURNS + 1}\n`);
  await expectWholeLog(sessionId, [...messages, dead, next]);
});
