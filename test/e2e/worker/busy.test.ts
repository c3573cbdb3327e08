import { messageKey } from "@longshore/shared";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Api, ApiMessage } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";

describe("a message that comes while a turn runs", () => {
  let fleet: Fleet;
  let api: Api;
  let worker: AppProcess;

  beforeAll(async () => {
    fleet = await Fleet.start({
      agent: { linger: "5s", retry: { attempts: 2, backoff: "50ms", longest: "100ms" } },
      agents: {
        coalesce: { busy: "coalesce", coalesce: { quiet: "300ms", longest: "5s", messages: 4 } },
        interrupt: { busy: "interrupt" },
        rollback: { busy: "rollback" },
        reject: { busy: "reject" },
      },
    });
    [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
  });
  afterAll(() => fleet[Symbol.asyncDispose]());

  const promptsOf = (messageId: string) =>
    worker.lines.filter(
      ({ msg, messageIds }) => msg === "prompt sent" && (messageIds as string[]).includes(messageId),
    );
  /** Sends, and waits until what it does can be seen. */
  async function sendLong(agent: string): Promise<ApiMessage> {
    const sent = await api.send("c", "1", "$ echo one >> told; echo said; sleep 60", { agent });
    const response = await api.request("GET", `/v1/sessions/${sent.sessionId}/events`);
    let seen = "";
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      seen += chunk;
      if (seen.includes('"text":"said')) break;
    }
    return sent;
  }
  const textsOf = ({ replies }: ApiMessage) => replies?.map(({ text }) => text.trim());

  it("interrupt: ends it, with what it did", async () => {
    const first = await sendLong("interrupt");
    const second = await api.ask("c", "2", "$ echo two >> told; cat told | tr '\\n' ' '", {
      agent: "interrupt",
    });
    expect(textsOf(second)).toEqual(["one two"]);
    expect(await api.message(first.messageId)).toMatchObject({ state: "cancelled", attempts: 0 });
  });

  it("rollback: drops what it did, and both become one turn", async () => {
    const first = await api.send("c", "1", "$ echo one >> told; sleep 4", {
      agent: "rollback",
    });
    await worker.line(
      ({ msg, messageIds }) => msg === "prompt sent" && (messageIds as string[])[0] === first.messageId,
    );
    const second = await api.ask("c", "2", "$ echo two >> told; cat told | tr '\\n' ' '", {
      agent: "rollback",
    });
    expect(textsOf(second)).toEqual(["one two"]);
    const both = await api.message(first.messageId);
    expect(both).toMatchObject({ state: "answered", attempts: 0 });
    expect(both.replies?.[0]?.id).toBe(second.replies?.[0]?.id);
    expect(promptsOf(first.messageId).map(({ messageIds }) => messageIds)).toEqual([
      [first.messageId],
      [first.messageId, second.messageId],
    ]);
  });

  it("reject: is refused, until it has ended", async () => {
    const first = await api.send("c", "1", "$ sleep 1", { agent: "reject" });
    const refused = await api.request("POST", "/v1/messages", {
      ...{
        id: "2",
        agent: "reject",
        channel: "http",
        conversation: "c",
        sender: { id: "ada" },
        text: "$ true",
      },
    });
    expect(refused.status).toBe(409);
    expect(await refused.json()).toMatchObject({ code: "SESSION_BUSY" });
    expect((await api.ask("c", "1", "again", { agent: "reject" })).messageId).toBe(first.messageId);
    expect((await api.ask("c", "2", "$ echo now", { agent: "reject" })).replies).toHaveLength(1);
  });

  it("coalesce: all that wait become one turn, in order; one that spoils it fails alone", async () => {
    const agent = "coalesce";
    await api.ask("c", "0", "$ sleep 0.1", { agent });
    const sent: ApiMessage[] = [];
    for (const id of ["1", "2", "3"])
      sent.push(await api.send("c", id, `$ echo ${id} >> told; cat told | tr '\\n' ' '`, { agent }));
    const last = await api.ask("c", "3", "again", { agent });
    expect(textsOf(last)).toEqual(["1 2 3"]);
    const ids = sent.map(({ messageId }) => messageId);
    expect(promptsOf(ids[0] as string).map(({ messageIds }) => messageIds)).toEqual([ids]);
    for (const messageId of ids)
      expect((await api.message(messageId)).replies?.[0]?.id).toBe(last.replies?.[0]?.id);

    // One that Redis does not know any more, sent again behind another: it is not told twice.
    const redis = new Redis(fleet.redis.url);
    await redis.del(messageKey(ids[0] as string));
    redis.disconnect();
    const busy = await api.send("c", "busy", "$ sleep 0.5", { agent });
    await expect.poll(() => promptsOf(busy.messageId)).toHaveLength(1);
    const behind = await api.send("c", "behind", "$ true", { agent });
    await api.send("c", "1", "$ echo 1 >> told; cat told | tr '\\n' ' '", { agent });
    await api.ask("c", "behind", "again", { agent });
    expect(promptsOf(behind.messageId).map(({ messageIds }) => messageIds)).toEqual([[behind.messageId]]);
    expect(await api.ask("c", "1", "again", { agent })).toMatchObject({ state: "answered" });
    expect(promptsOf(ids[0] as string)).toHaveLength(1);

    const spoilt: ApiMessage[] = [];
    for (const [id, text] of [
      ["4", "$ echo 4 >> told"],
      ["5", "!crash"],
      ["6", "$ tail -n1 told"],
    ] as const)
      spoilt.push(await api.send("c", id, text, { agent }));
    const after = await api.ask("c", "6", "again", { agent });
    expect(after).toMatchObject({ state: "answered", attempts: 0 });
    expect(textsOf(after)).toEqual(["4"]);
    expect(await api.message(spoilt[0]?.messageId as string)).toMatchObject({
      state: "answered",
      attempts: 0,
    });
    expect(await api.message(spoilt[1]?.messageId as string)).toMatchObject({ state: "dead", attempts: 2 });
  });
});

it("coalesce: a worker that stops waits for no others; whoever takes the session goes on waiting", async () => {
  const coalesce = { quiet: "1m", longest: "10m", messages: 2 };
  await using fleet = await Fleet.start({ agent: { busy: "coalesce", coalesce }, worker: { drain: "10m" } });
  const { api } = await fleet.startDispatcher();
  const first = await fleet.startWorker();
  const waiting = await api.send("c", "1", "$ echo one");
  await first.line(({ msg, state }) => msg === "activation" && state === "opening");
  await fleet.startWorker();
  expect(await first.stop()).toBe(0);
  expect(first.lines.filter(({ msg }) => msg === "prompt sent")).toEqual([]);
  const answered = await api.ask("c", "2", "$ echo two");
  expect(answered).toMatchObject({ state: "answered", attempts: 0 });
  expect((await api.message(waiting.messageId)).replies?.[0]?.id).toBe(answered.replies?.[0]?.id);
});
