import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Api, ApiMessage } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";
import { mailboxRunner } from "../../support/mailbox-runner.ts";

/** The `mailbox-db` contract, on one runtime; what has nothing to do with it on bwrap only. */
export function describeMailbox(runtime: "docker" | "bwrap", ociRuntime?: "runsc"): void {
  describe(`an agent with two databases, on ${ociRuntime ?? runtime}`, () => {
    let fleet: Fleet;
    let api: Api;
    let worker: AppProcess;

    beforeAll(async () => {
      const mailbox = {
        contract: "mailbox-db",
        runtime,
        ...(ociRuntime === undefined ? {} : { ociRuntime }),
        command: mailboxRunner,
      };
      fleet = await Fleet.start({
        runtime,
        destinations: { team: "http:the-team" },
        agents: {
          claw: mailbox,
          hasty: { ...mailbox, limits: { idle: "4s", memory: "512MiB" }, retry: { attempts: 1 } },
          gone: { ...mailbox, command: ["/no/such/program"], retry: { attempts: 1 } },
        },
      });
      [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
    });
    afterAll(() => fleet[Symbol.asyncDispose]());

    let messages = 0;
    const ask = (conversation: string, script: string, more: Record<string, unknown> = {}) =>
      api.ask(conversation, `m${++messages}`, script, { agent: "claw", ...more });
    const text = ({ replies, error }: ApiMessage) => {
      expect(error).toBeUndefined();
      return replies?.map((reply) => reply.text);
    };
    const told = async (conversation: string, script: string, more: Record<string, unknown> = {}) => {
      const [reply = ""] = text(await ask(conversation, script, more)) ?? [];
      return JSON.parse(reply);
    };

    it("finds its messages and its conversation in inbound.db", async () => {
      const data = Buffer.from("a,b").toString("base64");
      await api.send("prompt", "before", "by the way", { agent: "claw", thread: "t", wake: false });
      const script = `say(JSON.stringify({
        rows,
        where: [process.cwd(), process.env.HOME],
        routing: inbound("SELECT * FROM session_routing"),
        destinations: inbound("SELECT * FROM destinations"),
        file: fs.readFileSync("/workspace/" + JSON.parse(rows[1].content).attachments[0].localPath, "utf8"),
      }))`;
      const seen = await told("prompt", script, {
        sender: { id: "ada", name: "Ada" },
        thread: "t",
        attachments: [{ name: "t.csv", contentType: "text/csv", data }],
      });
      expect(seen.where).toEqual(["/workspace/workspace", "/session/home"]);
      expect(seen.routing).toEqual([{ id: 1, channel_type: "http", platform_id: "prompt", thread_id: "t" }]);
      expect(seen.destinations).toMatchObject([
        { name: "team", type: "channel", channel_type: "http", platform_id: "the-team" },
        { name: "http/prompt", type: "channel", channel_type: "http", platform_id: "prompt" },
      ]);
      expect(seen.file).toBe("a,b");
      expect(seen.rows).toMatchObject([
        { kind: "chat", seq: 2, trigger: 0, status: "pending" },
        { kind: "chat", seq: 4, trigger: 1, platform_id: "prompt", channel_type: "http", thread_id: "t" },
      ]);
      expect(JSON.parse(seen.rows[1].content)).toMatchObject({
        sender: "Ada",
        senderId: "ada",
        attachments: [{ name: "t.csv", mimeType: "text/csv", size: 3 }],
      });
    });

    it("keeps its databases from turn to turn: sequence numbers, what was delivered, what is done", async () => {
      await ask("kept", `outbound.exec("INSERT INTO session_state VALUES ('k', 'v', '')"); say("one")`);
      const seen = await told(
        "kept",
        `say(JSON.stringify({
          seq: rows[0].seq,
          before: inbound("SELECT seq, status FROM messages_in WHERE status = 'completed'"),
          delivered: inbound("SELECT status, message_out_id AS id FROM delivered"),
          out: outbound.prepare("SELECT id, seq FROM messages_out").all(),
          state: outbound.prepare("SELECT value FROM session_state").all(),
        }))`,
      );
      expect(seen).toMatchObject({
        seq: 4,
        before: [{ seq: 2, status: "completed" }],
        delivered: [{ status: "delivered", id: seen.out[0].id }],
        out: [{ seq: 3 }],
        state: [{ value: "v" }],
      });
    });

    it("sends what is followed by more before the turn has ended", async () => {
      const script = `say("on it"); await sleep(4000); say("first"); say("done"); say("[]", { type: "card" })`;
      expect(text(await ask("several", script))).toEqual(["on it", "first", "done", "[]"]);
      const seen = await told("several", `say(JSON.stringify(inbound("SELECT status FROM delivered")))`);
      expect(seen).toEqual(Array.from({ length: 4 }, () => ({ status: "delivered" })));
    });

    it("sends files by their names in its message, and nothing else", async () => {
      const script = `
        const id = row({ content: { text: "files", files: ["a.txt", "b.txt", "none.txt"] } });
        fs.mkdirSync("/workspace/outbox/" + id);
        fs.writeFileSync("/workspace/outbox/" + id + "/a.txt", "12345");
        fs.symlinkSync("/etc/passwd", "/workspace/outbox/" + id + "/b.txt");
        fs.writeFileSync("/workspace/outbox/stray.txt", "");
      `;
      const answered = await ask("files", script);
      expect(answered.replies?.[0]).toMatchObject({
        text: "files",
        artifacts: [{ name: "a.txt", sizeBytes: 5 }],
        refusedFiles: [{ name: "b.txt" }, { name: "none.txt" }],
      });
      const bad = `row({ content: { files: ["../../home/x"] } }); say(JSON.stringify(fs.readdirSync("/workspace/outbox").length))`;
      // The one that was refused is still there, and the stray one.
      expect(await told("files", bad)).toBe(2);
    });

    it("is told all that was said before, however much", async () => {
      for (let n = 1; n <= 25; n++)
        await api.send("context", `c${n}`, `word ${n}.`, { agent: "claw", wake: false });
      const seen: string[] = await told(
        "context",
        `say(JSON.stringify(rows.map((one) => JSON.parse(one.content).text)))`,
      );
      expect(seen).toHaveLength(10);
      const words = [
        ...seen
          .slice(0, -1)
          .join("\n")
          .matchAll(/word (\d+)\./g),
      ].map(([, n]) => Number(n));
      expect(words).toEqual(Array.from({ length: 25 }, (_, at) => at + 1));
    });

    it("writes to the destinations of its route, beside its reply", async () => {
      const script = `say("mine"); row({ platform: "the-team", channel: "http", content: { text: "theirs" } })`;
      const { replies } = await ask("destinations", script);
      expect(replies?.map(({ conversation, text }) => [conversation, text])).toEqual([
        ["the-team", "theirs"],
        ["destinations", "mine"],
      ]);
    });

    it("is not asked for other conversations, nor for what is not done here", async () => {
      const script = `
        row({ platform: "elsewhere", channel: "http", content: { text: "stolen" } });
        row({ kind: "system", content: { action: "install_packages" } });
        row({ content: { operation: "pin", messageId: "1" } });
        row({ kind: "task_log", content: { text: "logged" } });
        say("mine");
      `;
      expect(text(await ask("routes", script))).toEqual(["mine"]);
      const seen = await told("routes", `say(JSON.stringify(inbound("SELECT status FROM delivered")))`);
      expect(seen.map(({ status }: { status: string }) => status)).toEqual([
        ...["failed", "failed", "failed", "delivered", "delivered"],
      ]);
    });

    // What follows has nothing to do with what serves the sandbox's files.
    if (ociRuntime !== undefined) return;

    it("changes what it said, and reacts, by the numbers of messages", async () => {
      // As the contract's tools look a message up by its number.
      const idOf = `const idOf = (seq) =>
        inbound("SELECT id FROM messages_in WHERE seq = ?", seq)[0]?.id ??
        inbound("SELECT platform_message_id AS id FROM delivered WHERE message_out_id = ?",
          outbound.prepare("SELECT id FROM messages_out WHERE seq = ?").get(seq).id)[0].id;`;
      const first = await ask("changes", `say("early"); await handled(); say("answer")`);
      const [early, answer] = first.replies ?? [];
      const script = `${idOf}
        const seqs = outbound.prepare("SELECT seq FROM messages_out ORDER BY seq").all().map((one) => one.seq);
        row({ content: { operation: "edit", messageId: idOf(seqs[0]), text: "earlier" } });
        row({ content: { operation: "edit", messageId: idOf(seqs[1]), text: "a better answer" } });
        row({ content: { operation: "reaction", messageId: idOf(rows[0].seq), emoji: "eyes" } });
        const now = say("just now");
        row({ content: { operation: "edit", messageId: now, text: "now" } });
        row({ content: { operation: "edit", messageId: "nobody's", text: "x" } });
        await handled();
        say(JSON.stringify(inbound("SELECT status FROM delivered").map((one) => one.status)));`;
      const second = await ask("changes", script);
      expect(JSON.parse(second.replies?.at(-1)?.text ?? "")).toContain("failed");
      const changes = (second.replies ?? [])
        .filter(({ kind }) => kind !== "answer")
        .map(({ kind, of, text }) => ({ kind, of, text }));
      const said = second.replies?.find(({ text }) => text === "just now");
      expect(changes).toEqual([
        { kind: "edit", of: early?.id, text: "earlier" },
        { kind: "edit", of: answer?.id, text: "a better answer" },
        { kind: "reaction", of: second.messageId, text: "eyes" },
        { kind: "edit", of: said?.id, text: "now" },
      ]);
    });

    it("schedules tasks, sees, changes and cancels them, and is asked to do them when they are due", async () => {
      const act = (action: object) => `row({ kind: "system", content: ${JSON.stringify(action)} });`;
      const later = new Date(Date.now() + 3_600_000).toISOString();
      const listed = `await handled(); say(JSON.stringify(
        inbound("SELECT series_id AS id, status, process_after AS at, recurrence, content FROM messages_in WHERE kind = 'task' AND status IN ('pending', 'paused') ORDER BY id")
          .map(({ content, ...more }) => ({ ...more, ...JSON.parse(content) }))))`;
      const task = { action: "schedule_task", prompt: "look", script: null };
      const made = await told(
        "tasks",
        act({ ...task, taskId: "once", processAfter: later, recurrence: null }) +
          act({ ...task, taskId: "daily", processAfter: later, recurrence: "0 9 * * *" }) +
          act({ ...task, taskId: "never", processAfter: "yesterday" }) +
          listed,
      );
      expect(made).toMatchObject([
        { id: "daily", status: "pending", recurrence: "0 9 * * *", prompt: "look" },
        { id: "once", status: "pending", recurrence: null, at: later.replace("Z", "+0000") },
      ]);
      expect(Date.parse(made[0].at)).toBeGreaterThan(Date.now());
      const changed = await told(
        "tasks",
        act({ action: "pause_task", taskId: "daily" }) +
          act({ action: "update_task", taskId: "once", prompt: "look twice" }) +
          listed,
      );
      expect(changed).toMatchObject([
        { id: "daily", status: "paused", prompt: "look" },
        { id: "once", status: "pending", prompt: "look twice" },
      ]);
      const resumed = await told(
        "tasks",
        act({ action: "resume_task", taskId: "daily" }) +
          act({ action: "cancel_task", taskId: "once" }) +
          act({ action: "cancel_task", taskId: "no such" }) +
          listed,
      );
      expect(resumed).toMatchObject([{ id: "daily", status: "pending" }]);
      // Another session of the same agent has none, and can't touch them.
      expect(await told("others", act({ action: "cancel_task", taskId: "daily" }) + listed)).toEqual([]);
      // The turn has to ask for it before it is due, on a slow machine too.
      const soon = new Date(Date.now() + 5_000).toISOString();
      const prompt = `fs.appendFileSync("due", rows[0].kind + " " + rows[0].series_id); say("done")`;
      const { sessionId } = await ask(
        "tasks",
        act({ action: "cancel_task", taskId: "daily" }) +
          act({ ...task, taskId: "soon", prompt, processAfter: soon }) +
          // Still at work when it is due: it is the next turn's.
          `await sleep(${Date.parse(soon) + 500} - Date.now()); say("made")`,
      );
      const done = () => api.file(sessionId, "workspace/due").catch(() => "");
      await expect.poll(done).toBe("task soon");
    });

    // What follows has nothing to do with what made the sandbox.
    if (runtime === "docker") return;

    it("fails where it says so, where it ends, and where its provider failed; what it did is dropped", async () => {
      const retried = (how: string) => `
        fs.mkdirSync("half", { recursive: true });
        say("attempt " + inbound("SELECT count(*) AS n FROM delivered")[0].n);
        ${how}`;
      for (const [how, code] of [
        [`ack(rows[0].id, "failed"); await sleep(60000)`, "AGENT_ERROR"],
        ["process.exit(3)", "AGENT_EXITED"],
      ] as const) {
        const failed = await ask("fails", retried(how), { agent: "hasty" });
        expect(failed).toMatchObject({ state: "dead", error: { code } });
      }
      const script = `row({ content: { text: "Error: 529 overloaded" } })`;
      expect(await ask("fails", script, { agent: "hasty" })).toMatchObject({
        state: "dead",
        error: { code: "AGENT_ERROR", message: expect.stringContaining("529 overloaded") },
      });
      const seen = await told("fails", `say(JSON.stringify([fs.readdirSync("."), rows[0].seq]))`, {
        agent: "hasty",
      });
      expect(seen).toEqual([[], 2]);
    });

    it("that is not there is told as that", async () => {
      expect(await ask("gone", "hello", { agent: "gone" })).toMatchObject({
        state: "dead",
        error: { code: "AGENT_EXITED", message: expect.stringMatching(/127.*\/no\/such\/program/s) },
      });
    });

    it("may not send without an end", async () => {
      const flooding = `ack(rows[0].id, "completed"); for (;;) { say("x".repeat(1000)); await sleep(1); }`;
      expect(await ask("flood", flooding, { agent: "hasty" })).toMatchObject({
        state: "dead",
        error: { code: "TOO_MANY_MESSAGES" },
      });
      expect(text(await ask("flood", `say("back")`, { agent: "hasty" }))).toEqual(["back"]);
    });

    it("gets what comes while it runs in the next turn, and can be cancelled", async () => {
      const { sessionId } = await api.send("queue", "slow", "await sleep(60000)", { agent: "claw" });
      const next = ask("queue", `say("next")`);
      // Refused until the turn runs.
      const cancel = async () => (await api.request("POST", `/v1/sessions/${sessionId}/cancel`, {})).ok;
      await expect.poll(cancel).toBe(true);
      expect(text(await next)).toEqual(["next"]);
    });

    it("goes on elsewhere when its worker is killed in the middle of a turn", async () => {
      text(await ask("killed", `fs.appendFileSync("turns", "1"); say("one")`));
      const script = `fs.appendFileSync("turns", "2"); await sleep(3000); say(fs.readFileSync("turns", "utf8"))`;
      const { messageId } = await api.send("killed", "k", script, { agent: "claw" });
      const other = await fleet.startWorker();
      await worker.kill();
      worker = other;
      const answered = await api.ask("killed", "k", script, { agent: "claw" });
      expect(answered.messageId).toBe(messageId);
      expect(text(answered)).toEqual(["12"]);
    });

    it("gives signs of life by heartbeat and by declared tools, and is ended without them", async () => {
      const beating = `for (let n = 0; n < 6; n++) { await sleep(1000); beat(); } say("alive")`;
      expect(text(await ask("idle", beating, { agent: "hasty" }))).toEqual(["alive"]);
      const busy = `
        outbound.prepare("INSERT OR REPLACE INTO container_state VALUES (1, 'Bash', 60000, ?, '')")
          .run(new Date().toISOString());
        await sleep(6000);
        outbound.exec("UPDATE container_state SET current_tool = NULL");
        say("worked");
      `;
      expect(text(await ask("idle", busy, { agent: "hasty" }))).toEqual(["worked"]);
      expect(await ask("idle", "await sleep(60000)", { agent: "hasty" })).toMatchObject({
        state: "dead",
        error: { code: "IDLE_TIMEOUT" },
      });
    });

    it.each([
      [
        "a link",
        `fs.rmSync("/workspace/outbound.db"); fs.symlinkSync("/etc/passwd", "/workspace/outbound.db")`,
      ],
      ["no database", `fs.writeFileSync("/workspace/outbound.db", "x".repeat(100000))`],
      ["a directory", `fs.rmSync("/workspace/inbound.db"); fs.mkdirSync("/workspace/inbound.db")`],
      [
        "a view without an end",
        `outbound.exec("DROP TABLE messages_out; CREATE VIEW messages_out AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id, id AS seq, id AS in_reply_to, id AS kind, id AS platform_id, id AS channel_type, id AS content FROM n")`,
      ],
      ["locked for ever", `outbound.exec("BEGIN EXCLUSIVE")`],
      [
        "full of nonsense",
        `outbound.exec("INSERT INTO messages_out VALUES ('x', 1e300, '', '', '', '', x'00', '', '', '', x'ff')")`,
      ],
    ])("may make of its databases %s: the turn fails, and the session goes on", async (_, script) => {
      const failed = await ask("hostile", `${script}; await sleep(60000)`, { agent: "hasty" });
      expect(failed).toMatchObject({
        state: "dead",
        error: { code: expect.stringMatching(/^(AGENT_ERROR|IDLE_TIMEOUT|AGENT_EXITED)$/) },
      });
      expect(text(await ask("hostile", `say("back")`, { agent: "hasty" }))).toEqual(["back"]);
    });
  });
}
