import { afterEach, describe, expect, it } from "vitest";
import type { Api, ApiMessage } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";
import { HoldingProxy } from "../../support/holding-proxy.ts";

interface Cancelled {
  readonly turnId: string;
  readonly messageIds: readonly string[];
}

const LONG = "$ echo half > half; echo said; sleep 60; echo whole > whole";

describe("cancelling a turn", () => {
  let fleet: Fleet;
  let api: Api;
  let worker: AppProcess;

  async function start(agent: Readonly<Record<string, unknown>> = {}): Promise<void> {
    fleet = await Fleet.start({ agent });
    [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
  }
  afterEach(() => fleet[Symbol.asyncDispose]());

  const cancel = (sessionId: string, body: object = {}) =>
    api.json<Cancelled>("POST", `/v1/sessions/${sessionId}/cancel`, body);

  /** Sends, and waits until the prompt has begun to do something. */
  async function sendLong(conversation: string, text = LONG): Promise<ApiMessage> {
    const sent = await api.send(conversation, "1", text);
    await worker.line(
      ({ msg, messageIds }) => msg === "prompt sent" && (messageIds as string[]).includes(sent.messageId),
    );
    return sent;
  }

  /** Waits until the agent has said something, by the session's events. */
  async function hearText({ sessionId }: ApiMessage, text: string): Promise<void> {
    const response = await api.request("GET", `/v1/sessions/${sessionId}/events`);
    let seen = "";
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      seen += chunk;
      if (seen.includes(text)) return;
    }
  }

  it("keeps what it did, ends its message without a reply, and serves what waits; also where the agent minds nothing", async () => {
    await start({ linger: "60s" });
    const [polite, stubborn] = await Promise.all([
      (async () => {
        const sent = await sendLong("polite");
        await hearText(sent, '"text":"said'.concat("\\n"));
        const behind = api.ask("polite", "2", "$ cat half; ls");
        const { turnId, messageIds } = await cancel(sent.sessionId);
        expect(messageIds).toEqual([sent.messageId]);
        expect(
          (await api.request("POST", `/v1/sessions/${sent.sessionId}/cancel`, { turnId: "another" })).status,
        ).toBe(409);
        const answered = await behind;
        // By the same agent, in the same sandbox.
        expect(answered.replies?.map(({ text }) => text.trim())).toEqual(["half\nhalf"]);
        expect(await cancel(sent.sessionId, { turnId })).toEqual({ turnId, messageIds: [] });
        expect((await api.request("POST", `/v1/sessions/${sent.sessionId}/cancel`)).status).toBe(409);
        return sent;
      })(),
      (async () => {
        const sent = await sendLong("stubborn", "!hang");
        await cancel(sent.sessionId);
        expect(
          (await api.ask("stubborn", "2", "$ echo next")).replies?.map(({ text }) => text.trim()),
        ).toEqual(["next"]);
        return sent;
      })(),
    ]);
    for (const { messageId } of [polite, stubborn]) {
      expect(await api.message(messageId)).toMatchObject({ state: "cancelled", attempts: 0, replies: [] });
    }
    const { generations } = await api.json<{ generations: { kind: string; ends: unknown }[] }>(
      "GET",
      `/v1/sessions/${polite.sessionId}/generations`,
    );
    expect(generations.at(-1)).toMatchObject({
      kind: "turn",
      ends: [{ messageId: polite.messageId, outcome: "cancelled" }],
    });
  });

  it("whose retry waits, or whose worker died after the mark, ends its message without a prompt", async () => {
    await start({ linger: "0s", retry: { attempts: 5, backoff: "1h", longest: "1h" } });
    const failed = await api.send("c", "1", "!crash");
    await worker.line(({ msg }) => msg === "turn failed");
    await cancel(failed.sessionId);
    expect(await api.ask("c", "1", "again")).toMatchObject({ state: "cancelled", attempts: 1 });

    const sent = await sendLong("d");
    worker.signal("SIGSTOP");
    const { turnId } = await cancel(sent.sessionId);
    await worker.kill();
    const heir = await fleet.startWorker();
    expect(await api.ask("d", "1", "again")).toMatchObject({ state: "cancelled" });
    expect(heir.lines.filter(({ msg }) => msg === "prompt sent")).toEqual([]);
    expect((await api.ask("d", "2", "$ ls; echo clean")).replies?.[0]?.text.trim()).toBe("clean");
    expect(await cancel(sent.sessionId, { turnId })).toEqual({ turnId, messageIds: [] });
  });

  it("whose failure is recorded and whose session is not released yet waits for no retry", async () => {
    fleet = await Fleet.start({
      agent: { linger: "0s", retry: { attempts: 5, backoff: "1h", longest: "1h" } },
    });
    await using redis = await HoldingProxy.start(fleet.redis.url);
    [{ api }, worker] = await Promise.all([
      fleet.startDispatcher(),
      fleet.startWorker({ REDIS_URL: redis.url(fleet.redis.url) }),
    ]);
    // Sent whole, since the server does not know the script yet: its answer says that it was run.
    const records = (text: string) => text.includes("\r\neval\r\n") && text.includes('"type":"turn.failed"');
    const hold = redis.holdAnswer(({ from, bytes }) => from === "client" && records(bytes.toString()));
    const { sessionId } = await api.send("c", "1", "!crash");
    await hold.reached;
    await cancel(sessionId);
    hold.release();
    expect(await api.ask("c", "1", "again")).toMatchObject({ state: "cancelled", attempts: 1 });
    await worker.stop();
  });

  it("whose retry has no room by the tenant's limit ends at once", async () => {
    fleet = await Fleet.start({
      agent: { linger: "0s", retry: { attempts: 5, backoff: "1h", longest: "1h" } },
      limits: { runningTurns: 1 },
    });
    [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
    const failed = await api.send("failed", "1", "!crash");
    await worker.line(({ msg }) => msg === "turn failed");
    // It has the only room.
    const running = await sendLong("running");
    await cancel(failed.sessionId);
    expect(await api.ask("failed", "1", "again")).toMatchObject({ state: "cancelled", attempts: 1 });
    expect(await api.message(running.messageId)).toMatchObject({ state: "running" });
    await cancel(running.sessionId);
  });
});
