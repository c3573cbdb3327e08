import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Api, ApiMessage } from "../../support/api.ts";
import type { AppProcess, LogLine } from "../../support/app-process.ts";
import { calling } from "../../support/call-tool.ts";
import { Fleet } from "../../support/fleet.ts";
import { mailboxRunner } from "../../support/mailbox-runner.ts";

describe("questions of an agent", () => {
  let fleet: Fleet;
  let api: Api;
  let worker: AppProcess;

  beforeAll(async () => {
    fleet = await Fleet.start({
      agents: {
        interrupted: { busy: "interrupt" },
        rejecting: { busy: "reject" },
        careful: { permissions: "ask" },
        impatient: { limits: { idle: "2s", memory: "512MiB" }, retry: { attempts: 1 } },
        claw: { contract: "mailbox-db", command: mailboxRunner },
      },
    });
    [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
  });
  afterAll(() => fleet[Symbol.asyncDispose]());

  let messages = 0;
  const tool = (argument: object) => `!tool ask_user ${JSON.stringify(argument)}`;
  const bySomebodyElse = { sender: { id: "bob" } };
  const texts = ({ replies, error }: ApiMessage) => {
    expect(error).toBeUndefined();
    return replies?.map(({ text }) => text.trim());
  };

  /** Sends a message whose turn asks something, and waits until it does. */
  const asking = async (conversation: string, text: string, more: Record<string, unknown> = {}) => {
    const id = `m${++messages}`;
    const { sessionId, messageId } = await api.send(conversation, id, text, more);
    questions.set(sessionId, (questions.get(sessionId) ?? 0) + 1);
    await untilAsked(sessionId, questions.get(sessionId) ?? 0);
    return { sessionId, messageId, ended: () => api.ask(conversation, id, text, more) };
  };
  /** How many each session has asked so far. */
  const questions = new Map<string, number>();
  const untilAsked = async (sessionId: string, count: number) => {
    const events = await api.request("GET", `/v1/sessions/${sessionId}/events`);
    let seen = "";
    for await (const chunk of events.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      seen += chunk;
      if (seen.split('"type":"question"').length > count) return;
    }
  };
  const say = (conversation: string, text: string, more: Record<string, unknown> = {}) =>
    api.ask(conversation, `m${++messages}`, text, more);

  it("are answered by the next message of whom they ask, which ends with the turn", async () => {
    const question = { question: "Delete it?", options: ["yes", "no"] };
    const asked = await asking("plain", tool(question));
    const other = api.send("plain", "other", "$ echo other", bySomebodyElse);
    await other;
    const answer = await say("plain", " 2 ");
    expect(answer.state).toBe("answered");
    const ended = await asked.ended();
    const [first, last] = ended.replies ?? [];
    expect(first).toMatchObject({
      text: "Delete it?\n1. yes\n2. no",
      question: { id: expect.any(String), options: ["yes", "no"] },
    });
    expect(JSON.parse(last?.text ?? "")).toEqual({ answered: true, answer: " 2 ", option: "no" });
    // The answer's own replies are those of the turn that it went into.
    expect(answer.replies?.at(-1)?.id).toBe(last?.id);
    // The other one's message was no answer, and is its own turn.
    expect(texts(await api.ask("plain", "other", "$ echo other", bySomebodyElse))).toEqual(["other"]);
    expect(texts(await say("plain", "$ grep -c Delete ~/.agent-shell/*.jsonl"))?.[0]).not.toBe("0");
  });

  it("have answers that neither interrupt the turn nor are refused", async () => {
    for (const agent of ["interrupted", "rejecting"]) {
      const asked = await asking(agent, tool({ question: "Name?" }), { agent });
      await say(agent, "Ada", { agent });
      const reply = texts(await asked.ended())?.at(-1) ?? "";
      expect(JSON.parse(reply)).toEqual({ answered: true, answer: "Ada" });
    }
    const refused = await asking("refused", tool({ question: "Name?" }), { agent: "rejecting" });
    await expect(say("refused", "no", { agent: "rejecting", ...bySomebodyElse })).rejects.toThrow(/409/);
    await say("refused", "Ada", { agent: "rejecting" });
    expect((await refused.ended()).state).toBe("answered");
  });

  it("wait for so long and no longer, and a late answer is a message of its own", async () => {
    const late = await asking("late", tool({ question: "Now?", timeoutSeconds: 1 }));
    expect(JSON.parse(texts(await late.ended())?.at(-1) ?? "")).toEqual({ answered: false });
    expect(texts(await say("late", "$ echo mine"))).toEqual(["mine"]);
  });

  it("are no silence of the agent's", async () => {
    const agent = "impatient";
    const asked = await asking("silence", tool({ question: "Well?", timeoutSeconds: 6 }), { agent });
    expect(JSON.parse(texts(await asked.ended())?.at(-1) ?? "")).toEqual({ answered: false });
  });

  it("end with a turn that is cancelled", async () => {
    const asked = await asking("cancelled", tool({ question: "Well?" }));
    await api.json("POST", `/v1/sessions/${asked.sessionId}/cancel`, {});
    expect((await asked.ended()).state).toBe("cancelled");
    expect(texts(await say("cancelled", "$ echo next"))).toEqual(["next"]);
  });

  it("are not asked again in another attempt, where they were answered", async () => {
    const question = { question: "Sure?", options: ["yes", "no"] };
    const asked = await asking("killed", calling("ask_user", question, 'echo "$answer"', 8));
    // The answer is there, and nobody is left to take it.
    worker.signal("SIGSTOP");
    await api.send("killed", "answer", "yes");
    await worker.kill();
    worker = await fleet.startWorker();
    const ended = await asked.ended();
    expect(ended.replies?.filter(({ text }) => text.startsWith("Sure?"))).toHaveLength(1);
    const { result } = JSON.parse(texts(ended)?.at(-1) ?? "");
    expect(JSON.parse(result.content[0].text)).toMatchObject({ answered: true, option: "yes" });
    expect((await api.ask("killed", "answer", "yes")).state).toBe("answered");
  });

  it("may be for a permission", async () => {
    const more = { agent: "careful" };
    for (const [answer, outcome] of [
      ["Allow", "permission: yes"],
      ["2", "permission: no"],
      ["what for?", "permission: no"],
    ] as const) {
      const asked = await asking("careful", "!permission rm -rf /", more);
      await say("careful", answer, more);
      expect(texts(await asked.ended())).toEqual(["May I? rm -rf /\n1. Allow\n2. Deny", outcome]);
    }
  });

  it("for a permission are over where the turn is cancelled: the agent can end it", async () => {
    const more = { agent: "careful" };
    const asked = await asking("cancelled", "!permission rm -rf /", more);
    const seen = worker.lines.length;
    await api.json("POST", `/v1/sessions/${asked.sessionId}/cancel`, {});
    expect(await asked.ended()).toMatchObject({ state: "cancelled" });
    expect(texts(await say("cancelled", "$ echo still here", more))).toEqual(["still here"]);
    const begun = ({ msg, state, sessionId }: LogLine) =>
      msg === "activation" && state === "hydrating" && sessionId === asked.sessionId;
    expect(worker.lines.slice(seen).filter(begun)).toEqual([]);
  });

  it("may be asked by an agent with two databases", async () => {
    const more = { agent: "claw" };
    const script = `
        say("looking");
        const questionId = row({ kind: "chat-sdk", content: {
          type: "ask_question", title: "Deploy?", question: "To production", questionId: "q1",
          options: ["no", { label: "yes", value: "go" }],
        } });
        for (;;) {
          const [found] = inbound("SELECT * FROM messages_in WHERE status = 'pending' AND content LIKE '%\\"questionId\\":\\"q1\\"%'");
          if (found !== undefined) {
            ack(found.id, "completed");
            say(found.kind + " " + found.content);
            break;
          }
          await sleep(100);
        }
      `;
    const asked = await asking("claw", script, more);
    await say("claw", "yes", more);
    const [first, question, last = ""] = texts(await asked.ended()) ?? [];
    expect([first, question]).toEqual(["looking", "Deploy?\nTo production\n1. no\n2. yes"]);
    expect(last).toMatch(/^system /);
    expect(JSON.parse(last.slice("system ".length))).toMatchObject({
      ...{ type: "question_response", questionId: "q1", status: "answered", result: "go" },
    });
  });

  it("may be asked by it after it acknowledged, as long as nobody has answered", async () => {
    const more = { agent: "claw" };
    const script = `
      ack(rows[0].id, "completed");
      row({ content: { type: "ask_question", question: "Sure?", questionId: "late", options: ["yes"] } });
      while (inbound("SELECT * FROM messages_in WHERE kind = 'system'").length === 0) await sleep(100);
      say("thanks");
    `;
    const asked = await asking("claw-late", script, more);
    await say("claw-late", "yes", more);
    expect(texts(await asked.ended())).toEqual(["Sure?\n1. yes", "thanks"]);
  });
});
