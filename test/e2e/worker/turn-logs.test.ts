import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Api } from "../../support/api.ts";
import { Fleet } from "../../support/fleet.ts";
import { longshore } from "../cli/longshore.ts";

interface Listed {
  readonly turnLogs: readonly { readonly id: string; readonly turnId: string }[];
  readonly cursor?: string;
}

describe("logs of turns", () => {
  let fleet: Fleet;
  let api: Api;

  beforeAll(async () => {
    const script =
      "echo said; echo why >&2; test -e /session/home/fine || { touch /session/home/fine; exit 3; }";
    fleet = await Fleet.start({
      agents: {
        all: { turnLog: "all" },
        off: { turnLog: "off", retry: { attempts: 1 } },
        once: { retry: { attempts: 2, backoff: "1ms" } },
        command: { contract: "exec", command: ["/bin/sh", "-c", script], retry: { attempts: 1 } },
      },
    });
    ({ api } = await fleet.startDispatcher());
    await fleet.startWorker();
  });
  afterAll(() => fleet[Symbol.asyncDispose]());

  const list = async (sessionId: string, query = ""): Promise<Listed> =>
    await api.json("GET", `/v1/sessions/${sessionId}/turn-logs${query}`);
  const untilListed = async (sessionId: string, count: number) => {
    await expect.poll(async () => (await list(sessionId)).turnLogs.length).toBe(count);
    return (await list(sessionId)).turnLogs;
  };
  const read = async (sessionId: string, id: string) => {
    const answer = await api.request("GET", `/v1/sessions/${sessionId}/turn-logs/${id}`);
    expect(answer.headers.get("content-type")).toBe("application/x-ndjson");
    const text = await answer.text();
    return text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
  };

  it("are kept of attempts that failed, and say why", async () => {
    const failed = await api.ask("fails", "m1", "!crash", { agent: "once" });
    expect(failed.state).toBe("dead");
    const [newest, older] = await untilListed(failed.sessionId, 2);
    expect(newest?.turnId).not.toBe(older?.turnId);
    const entries = await read(failed.sessionId, newest?.id ?? "");
    expect(entries[0]).toMatchObject({ type: "turn", agent: "once", messageIds: [failed.messageId] });
    expect(entries.at(-1)).toMatchObject({
      type: "end",
      outcome: "failed",
      error: { code: "AGENT_EXITED", message: expect.stringContaining("exited with 70") },
    });
    await api.ask("fails", "m2", "$ true", { agent: "once" });
    expect((await list(failed.sessionId)).turnLogs).toHaveLength(2);
    // By pages.
    const first = await list(failed.sessionId, "?limit=1");
    const second = await list(failed.sessionId, `?limit=1&cursor=${first.cursor}`);
    expect([...first.turnLogs, ...second.turnLogs].map(({ id }) => id)).toEqual([newest?.id, older?.id]);
    expect(second.cursor).toBeUndefined();
  });

  it("have what a command wrote to standard error", async () => {
    const { sessionId } = await api.ask("stderr", "m1", "hello", { agent: "command" });
    const [log] = await untilListed(sessionId, 1);
    const entries = await read(sessionId, log?.id ?? "");
    expect(entries).toContainEqual(expect.objectContaining({ type: "text", text: "said\n" }));
    expect(entries.at(-1)).toMatchObject({ outcome: "failed", stderr: "why" });
  });

  it("are kept of all attempts, or of none, where the definition says so", async () => {
    const { sessionId } = await api.ask("all", "m1", "$ echo fine", { agent: "all" });
    const [log] = await untilListed(sessionId, 1);
    const entries = await read(sessionId, log?.id ?? "");
    expect(entries.map(({ type }) => type)).toContain("tool");
    expect(entries.at(-1)).toMatchObject({ type: "end", outcome: "answered" });
    const off = await api.ask("off", "m1", "!crash", { agent: "off" });
    expect((await list(off.sessionId)).turnLogs).toEqual([]);
  });

  it("are nobody else's, and bad ids are said to be", async () => {
    const { sessionId } = await api.ask("own", "m1", "!crash", { agent: "once" });
    const [log] = await untilListed(sessionId, 2);
    const status = async (path: string) => (await api.request("GET", `/v1/sessions/${path}`)).status;
    expect(await status(`${sessionId}/turn-logs/${log?.id}x`)).toBe(404);
    expect(await status(`${sessionId}/turn-logs/..%2F..%2Flog`)).toBe(400);
    expect(await status(`${"a".repeat(26)}/turn-logs`)).toBe(404);
  });

  it("are shown by the command line", async () => {
    const { sessionId } = await api.ask("shown", "m1", "!crash", { agent: "once" });
    await untilListed(sessionId, 2);
    const environment = { ...fleet.environment, LONGSHORE_URL: api.url, LONGSHORE_KEY: fleet.key };
    const listed = await longshore(["sessions", "turn-logs", sessionId], { environment });
    const id = /\d{15}-\w+/.exec(listed.stdout)?.[0] ?? "";
    const { stdout } = await longshore(["sessions", "turn-logs", sessionId, id], { environment });
    expect(stdout).toContain('"outcome":"failed"');
  });
});
