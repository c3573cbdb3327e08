import { deriveMessageId } from "@longshore/shared";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Api, ApiMessage } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { calling, HELLO, HELPER } from "../../support/call-tool.ts";
import { Fleet } from "../../support/fleet.ts";

/** The fleet's tools, on one runtime. */
export function describeTools(runtime: "docker" | "bwrap"): void {
  describe(`the fleet's tools, on ${runtime}`, () => {
    let fleet: Fleet;
    let api: Api;
    let worker: AppProcess;

    beforeAll(async () => {
      fleet = await Fleet.start({
        runtime,
        agents: { warm: { warm: 1 }, operator: {} },
        destinations: { team: { channel: "http", conversation: "the-team", thread: "t" } },
      });
      ({ api } = await fleet.startDispatcher());
      worker = await fleet.startWorker({ LONGSHORE_PUBLIC_URL: api.url });
    });
    afterAll(() => fleet[Symbol.asyncDispose]());

    let messages = 0;
    const ask = (conversation: string, text: string, more: Record<string, unknown> = {}) =>
      api.ask(conversation, `m${++messages}`, text, more);
    const texts = ({ replies, error }: ApiMessage) => {
      expect(error).toBeUndefined();
      return replies?.map(({ text }) => text.trim());
    };
    const only = (message: ApiMessage) => texts(message)?.[0] ?? "";

    it("are offered to every ACP agent, that of a warm sandbox too", async () => {
      expect(only(await ask("list", "!tool"))).toBe(
        "send_message\nedit_message\nreact\nask_user\nshare_file\nschedule\nlist_schedules\ncancel_schedule\nread_history",
      );
      await worker.line(({ msg }) => msg === "a warm sandbox is ready");
      const history = await ask("warm", '!tool read_history {"limit":3}', { agent: "warm" });
      expect(only(history)).toBe("[]");
      expect(worker.lines.some(({ msg }) => msg === "took a warm sandbox")).toBe(true);
    });

    it("send_message: is sent before the answer, with files, each once", async () => {
      await ask("send", "$ echo 1234 > a.txt; ln -s /etc/passwd link");
      const answered = await ask(
        "send",
        '!tool send_message {"text":"on my way","files":["a.txt","/session/workspace/link","../home"]}',
      );
      const [sent, answer] = answered.replies ?? [];
      expect(sent).toMatchObject({
        text: "on my way",
        artifacts: [{ name: "a.txt", sizeBytes: 5 }],
        refusedFiles: [{ name: "../home" }, { name: "link" }],
      });
      expect(JSON.parse(answer?.text ?? "")).toMatchObject({ sent: true, files: ["a.txt"] });
      expect(answered.replies).toHaveLength(2);
      // The file stays, and another of its name is another artifact.
      const again = await ask("send", '!tool send_message {"text":"again","files":["a.txt"]}');
      expect(again.replies?.[0]?.artifacts[0]?.id).not.toBe(sent?.artifacts[0]?.id);
    });

    it("send_message: is there while the turn still runs, is not taken back when it fails, and the next attempt is told", async () => {
      const script = calling("send_message", { text: "half-way" }, "echo done > done; sleep 5; ls");
      const id = `m${++messages}`;
      const accepted = await api.send("killed", id, script);
      const events = await api.request("GET", `/v1/sessions/${accepted.sessionId}/events`);
      let seen = "";
      for await (const chunk of events.body?.pipeThrough(new TextDecoderStream()) ?? []) {
        seen += chunk;
        if (seen.includes('"type":"reply.delivered"')) break;
      }
      expect((await api.message(accepted.messageId)).state).toBe("running");
      await worker.kill();
      worker = await fleet.startWorker({ LONGSHORE_PUBLIC_URL: api.url });
      const answered = await api.ask("killed", id, script);
      expect(texts(answered)).toEqual(["half-way", "half-way", "done"]);
      const history = only(await ask("killed", "$ cat ~/.agent-shell/*.jsonl"));
      expect(history).toContain("It had sent these messages to the conversation already");
      expect(history).toContain("> half-way");
      // It is told once: what was answered is not an earlier attempt.
      await ask("killed", "$ true");
      const later = only(await ask("killed", "$ tail -n 1 ~/.agent-shell/*.jsonl"));
      expect(later).not.toContain("earlier attempt");
    });

    it("send_message: is refused while no turn runs", async () => {
      const late = calling("send_message", { text: "late" }).slice(2);
      expect(texts(await ask("late", `$ (sleep 1; ${late}) > /dev/null 2>&1 &`))).toEqual([]);
      const failed = await worker.line(({ msg }) => msg === "a tool failed");
      expect(failed).toMatchObject({ tool: "send_message", err: { code: "NO_TURN" } });
      expect(texts(await ask("late", "$ echo nothing else"))).toEqual(["nothing else"]);
    });

    it("send_message: goes to a destination that the route names, and to no other one", async () => {
      const answered = await ask("to", '!tool send_message {"text":"for the team","to":"team"}');
      const [sent, answer] = answered.replies ?? [];
      expect(sent).toMatchObject({
        text: "for the team",
        channel: "http",
        conversation: "the-team",
        thread: "t",
      });
      expect(answer).toMatchObject({ conversation: "to" });
      const refused = only(await ask("to", '!tool send_message {"text":"x","to":"press"}'));
      expect(refused).toContain("UNKNOWN_DESTINATION");
      expect(refused).toContain("there are: team");
      // The destination's own session is another one, which knows nothing of it.
      expect(only(await ask("the-team", "!tool read_history", { thread: "t" }))).toBe("[]");
    });

    it("edit_message: gives a message of this session another text, and those of others none", async () => {
      const first = await ask("edit", '!tool send_message {"text":"draft","to":"team"}');
      const { messageId } = JSON.parse(first.replies?.at(-1)?.text ?? "");
      expect(messageId).toBe(first.replies?.[0]?.id);
      const call = JSON.stringify({ messageId, text: "final" });
      const [edit] = (await ask("edit", `!tool edit_message ${call}`)).replies ?? [];
      // It goes where the message is.
      expect(edit).toMatchObject({ kind: "edit", of: messageId, text: "final", conversation: "the-team" });
      expect(only(await ask("edit-other", `!tool edit_message ${call}`))).toContain("UNKNOWN_MESSAGE");
      const ofMessage = JSON.stringify({ messageId: first.messageId, text: "not mine" });
      expect(only(await ask("edit", `!tool edit_message ${ofMessage}`))).toContain("UNKNOWN_MESSAGE");
    });

    it("react: puts an emoji to the message that is answered, or to an earlier one", async () => {
      const first = await ask("react", '!tool react {"emoji":"👀"}');
      expect(first.replies?.[0]).toMatchObject({ kind: "reaction", of: first.messageId, text: "👀" });
      const again = await ask(
        "react",
        `!tool react ${JSON.stringify({ emoji: "✅", messageId: first.messageId })}`,
      );
      expect(again.replies?.[0]).toMatchObject({ kind: "reaction", of: first.messageId, text: "✅" });
      const foreign = JSON.stringify({ emoji: "✅", messageId: first.messageId });
      expect(only(await ask("react-other", `!tool react ${foreign}`))).toContain("UNKNOWN_MESSAGE");
    });

    it("share_file: gives a link to what the file is now, and to nothing outside of the working directory", async () => {
      await ask("share", "$ echo first > a.txt; ln -s /etc/passwd link; echo secret > ~/b.txt");
      const { url } = JSON.parse(only(await ask("share", '!tool share_file {"path":"a.txt"}')));
      await ask("share", "$ echo second > a.txt");
      const answer = await fetch(url);
      expect([answer.status, await answer.text()]).toEqual([200, "first\n"]);
      for (const path of ["link", "../home/b.txt", "missing", "."])
        expect(only(await ask("share", `!tool share_file {"path":"${path}"}`))).toContain("FILE_REFUSED");
    });

    it("schedule: asks the same session once, or again and again, until it is cancelled", async () => {
      const at = new Date(Date.now() + 4_000).toISOString();
      const once = await ask("plan", `!tool schedule ${JSON.stringify({ prompt: "$ echo later", at })}`);
      const { id } = JSON.parse(only(once));
      const cron = { prompt: "$ echo daily", cron: "30 9 * * *", timeZone: "Europe/Berlin" };
      const daily = JSON.parse(only(await ask("plan", `!tool schedule ${JSON.stringify(cron)}`)));
      expect(daily).toMatchObject({ cron: "30 9 * * *", nextAt: expect.any(String) });
      const ids = async (conversation: string) =>
        JSON.parse(only(await ask(conversation, "!tool list_schedules"))).map(
          (each: { id: string }) => each.id,
        );
      // Another conversation of the same agent has no part in it.
      expect(await ids("elsewhere")).toEqual([]);
      const foreign = await ask("elsewhere", `!tool cancel_schedule {"id":"${daily.id}"}`);
      expect(only(foreign)).toContain("SCHEDULE_NOT_FOUND");
      const messageId = deriveMessageId(once.sessionId, `${id}@${at}`);
      await expect
        .poll(() => api.message(messageId).catch(() => undefined))
        .toMatchObject({ state: "answered", replies: [{ text: "later\n" }] });
      expect(await ids("plan")).toEqual([daily.id]);
      // One whose route makes it the tenant's operator does.
      const operator = { agent: "operator" };
      const seen = JSON.parse(only(await ask("office", "!tool list_schedules", operator)));
      expect(seen).toMatchObject([{ id: daily.id, conversation: "http/plan" }]);
      await ask("office", `!tool cancel_schedule {"id":"${daily.id}"}`, operator);
      expect(await ids("plan")).toEqual([]);
    });

    it.each([
      { prompt: "x" },
      { prompt: "x", at: "yesterday" },
      { prompt: "x", at: "2020-01-01T00:00:00Z" },
      { prompt: "x", at: "2027-01-01T00:00:00Z", cron: "0 9 * * *" },
      { prompt: "x", cron: "sometimes" },
    ])("schedule: refuses %j", async (request) => {
      const refused = await ask("refused", `!tool schedule ${JSON.stringify(request)}`);
      expect(only(refused)).toContain("INVALID_SCHEDULE");
    });

    it("read_history: tells what was said in this session, and in no other one", async () => {
      await ask("other", "$ echo secret of another");
      await ask("history", "$ echo one");
      await ask("history", '!tool send_message {"text":"in between"}');
      const told = JSON.parse(only(await ask("history", '!tool read_history {"limit":50}')));
      expect(
        told.map(({ from, text, outcome }: { from?: string; text: string; outcome?: string }) => [
          from,
          text.trim(),
          outcome,
        ]),
      ).toEqual([
        ["ada", "$ echo one", "answered"],
        [undefined, "one", undefined],
        [undefined, "in between", undefined],
        ["ada", '!tool send_message {"text":"in between"}', "answered"],
        [undefined, expect.stringContaining('"sent":true'), undefined],
      ]);
      const newest = JSON.parse(only(await ask("history", '!tool read_history {"limit":2}')));
      expect(newest).toHaveLength(2);
    });

    it("bad arguments and unknown tools are the agent's to see, and nothing else happens", async () => {
      expect(only(await ask("bad", '!tool send_message {"text":5}'))).toMatch(/error|Invalid/i);
      expect(only(await ask("bad", '!tool read_history {"limit":100000}'))).toMatch(/error|Too big|Invalid/i);
      expect(await ask("bad", "!tool no_such_tool {}")).toBeDefined();
      expect(only(await ask("bad", "$ echo alive"))).toBe("alive");
    });

    it("garbage, an endless request, and answers that nobody reads trouble nobody else", async () => {
      const hello = HELLO.map((line) => `echo '${JSON.stringify(line)}'`).join("; ");
      const hostile = [
        `head -c 100000 /dev/urandom | ${HELPER} | wc -c`,
        `head -c 50000000 /dev/zero | tr '\\0' x | ${HELPER} | wc -c`,
        `(${hello}; yes '{"jsonrpc":"2.0","id":7,"method":"tools/list"}') | timeout 4 ${HELPER} | (sleep 5; wc -c)`,
        "echo survived",
      ];
      const troubled = ask("hostile", `$ (${hostile.join("; ")}) 2>&1`);
      // Meanwhile.
      expect(only(await ask("neighbour", "!tool"))).toContain("send_message");
      expect(only(await troubled)).toMatch(/survived$/);
      expect(only(await ask("hostile", "!tool"))).toContain("send_message");
    });
  });
}
