import { join } from "node:path";
import type { SessionUsage } from "@longshore/shared";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { claude as claudePackage } from "../../../infra/setup/npm-agent.ts";
import type { Api } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet, type FleetOptions } from "../../support/fleet.ts";
import { type Answer, MessagesApi } from "../../support/messages-api.ts";
import { ProvidedAgent } from "../../support/npm-agent.ts";
import { ready, took } from "./describe-warm.ts";

/** A PNG of one pixel. */
const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";

const say = (text: string): Answer => [{ type: "text", text }];
const call = (name: string, input: unknown): Answer => [{ type: "tool_use", name, input }];
const textOf = ({ replies }: { replies?: readonly { text: string }[] }): string | undefined =>
  replies?.map(({ text }) => text).join("|");

/** The Claude agent that people have, against a stand-in for its provider. */
export function describeClaude(runtime: "docker" | "bwrap"): void {
  describe(`the Claude agent, ${runtime}`, () => {
    let claude: ProvidedAgent;
    let provider: MessagesApi;
    let fleet: Fleet;
    let api: Api;
    let worker: AppProcess;
    beforeAll(async () => {
      [claude, provider] = await Promise.all([
        ProvidedAgent.provide(claudePackage, runtime),
        MessagesApi.start(),
      ]);
      fleet = await startFleet({ agents: { hasty: { busy: "interrupt" }, strict: { permissions: "deny" } } });
      [{ api }, worker] = await Promise.all([fleet.startDispatcher(), startWorker(fleet)]);
    });
    afterAll(async () => {
      await fleet?.[Symbol.asyncDispose]();
      await provider?.[Symbol.asyncDispose]();
      await claude?.[Symbol.asyncDispose]();
    });

    const startFleet = ({ agent, ...options }: FleetOptions): Promise<Fleet> =>
      Fleet.start({ ...options, runtime, agent: { ...claude.definition(provider), ...agent } });

    const startWorker = (of: Fleet, name = "run"): Promise<AppProcess> =>
      of.startWorker({
        LONGSHORE_RUN_DIR: join(of.directory, name),
        NODE_EXTRA_CA_CERTS: provider.certificateFile,
      });

    it("takes turns, uses tools, and never has the key", async () => {
      provider.answer = ({ latest }) => {
        if (latest.includes("tool_result")) return say("It is written.");
        return latest.includes("write it down")
          ? call("Write", { file_path: "/session/workspace/notes.txt", content: "remember: blue\n" })
          : call("Bash", {
              command: "env; cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'; grep -r sk- ~",
            });
      };
      const pixel = { name: "pixel.png", contentType: "image/png", data: PIXEL };
      const first = await api.ask("c", "1", "My colour is blue, write it down.", { attachments: [pixel] });
      expect([first.state, textOf(first)]).toEqual(["answered", "It is written."]);
      expect(await api.file(first.sessionId, "workspace/notes.txt")).toBe("remember: blue\n");
      // The answer to it shows what the agent can see.
      const second = await api.ask("c", "2", "What is in your environment?");
      expect(second.state).toBe("answered");
      const { said } = provider.requests.at(-1) as (typeof provider.requests)[number];
      expect(said.join("\n")).toContain("My colour is blue");
      // It takes images, so it was shown the one that came with the message.
      expect(JSON.stringify(provider.requests.at(-1)?.body)).toContain(PIXEL);
      const { usage } = await api.json<{ usage?: SessionUsage }>("GET", `/v1/sessions/${first.sessionId}`);
      expect(usage?.tokens).toMatchObject({ input: expect.any(Number), output: expect.any(Number) });
      expect(usage?.tokens.output).toBeGreaterThan(0);
      expect(said.join("\n")).toContain("ANTHROPIC_BASE_URL=http://127.0.0.1:3128/anthropic");
      expect(said.join("\n")).not.toContain(provider.key);
      expect(provider.refused).toEqual([]);
      expect(JSON.stringify(worker.lines) + worker.stderr).not.toContain(provider.key);
    });

    it("goes on with its own session on another host when the first is killed in mid-turn", async () => {
      await using other = await startFleet({ store: "s3" });
      const [{ api }, victim] = await Promise.all([other.startDispatcher(), startWorker(other, "first")]);
      provider.answer = () => say("I will remember blue.");
      await api.ask("c", "1", "My colour is blue.");
      const inTurn = Promise.withResolvers<void>();
      const never = Promise.withResolvers<never>();
      provider.answer = () => {
        inTurn.resolve();
        return never.promise;
      };
      const { messageId } = await api.send("c", "2", "Which colour?");
      await inTurn.promise;
      await victim.kill();
      provider.answer = () => say("Blue.");
      await startWorker(other, "second");
      await expect.poll(async () => (await api.message(messageId)).state).toBe("answered");
      expect(textOf(await api.message(messageId))).toBe("Blue.");
      const said = provider.requests.at(-1)?.said.join("\n") ?? "";
      expect(said).toContain("My colour is blue.");
      expect(said).toContain("assistant: I will remember blue.");
      expect(said.split("Which colour?")).toHaveLength(2);
    });

    it("waits warm for a session, with its way out", async () => {
      await using other = await startFleet({ agent: { warm: 1 } });
      const [{ api }, worker] = await Promise.all([other.startDispatcher(), startWorker(other)]);
      await ready(worker);
      provider.answer = () => say("Warm.");
      expect(textOf(await api.ask("c", "1", "Hello"))).toBe("Warm.");
      expect(took(worker)).toBe(1);
      // What its agent asked for before had no session.
      const egress = await worker.line(({ msg, sessionId }) => msg === "egress" && sessionId !== undefined);
      expect(egress).toMatchObject({ decision: "credential" });
    });

    it("leaves nothing of the session that it opened ahead where another one goes on", async () => {
      await using other = await startFleet({ agent: { warm: 1, linger: "0s" } });
      const [{ api }, worker] = await Promise.all([other.startDispatcher(), startWorker(other)]);
      provider.answer = ({ latest }) =>
        latest.includes("tool_result") || !latest.includes("list")
          ? say("Seen.")
          : call("Bash", { command: "echo transcripts: $(find ~/.claude/projects -name '*.jsonl' | wc -l)" });
      for (const [id, count] of [
        ["1", 1],
        ["2", 2],
        ["3", 3],
      ] as const) {
        await ready(worker, count);
        expect(textOf(await api.ask("c", id, `Please list them, ${id}`))).toBe("Seen.");
        const said = provider.requests.at(-1)?.said.join("\n") ?? "";
        // One transcript, of one session, which knows all that was said.
        expect(said.match(/transcripts: \d+/g)?.at(-1)).toBe("transcripts: 1");
        for (let before = 1; before <= count; before++) expect(said).toContain(`list them, ${before}`);
      }
      expect(took(worker)).toBe(3);
      const opened = worker.lines.filter(({ msg }) => msg === "took a warm sandbox");
      expect(opened.map((line) => line.opened)).toEqual([true, true, true]);
    });

    // The same whatever the sandbox: tried in one.
    if (runtime === "bwrap") return;

    it("is interrupted in mid-stream, and answers what interrupted it", async () => {
      const [streaming, held] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      provider.answer = () => [
        {
          type: "text",
          text: (async function* () {
            yield "Once upon ";
            yield "a time";
            streaming.resolve();
            await held.promise;
          })(),
        },
      ];
      const { messageId } = await api.send("hasty", "1", "Tell me a long story.", { agent: "hasty" });
      await streaming.promise;
      const told = provider.requests.at(-1);
      provider.answer = () => say("Stopped.");
      const second = await api.ask("hasty", "2", "Stop, what time is it?", { agent: "hasty" });
      expect([second.state, textOf(second)]).toEqual(["answered", "Stopped."]);
      await told?.cutOff;
      held.resolve();
      expect((await api.message(messageId)).state).not.toBe("running");
      expect(provider.requests.at(-1)?.said.join("\n")).toContain("Tell me a long story.");
    });

    it.each([
      [429, "rate_limit_error"],
      [529, "overloaded_error"],
    ])("outlasts %i of the provider", async (status, error) => {
      let failures = 0;
      const greeting = `Hello ${status}`;
      provider.answer = ({ latest }) =>
        latest.includes(greeting) && failures++ < 2
          ? { status, error, retryAfterSeconds: 0 }
          : say("At last.");
      const { state, replies } = await api.ask(`limit-${status}`, "1", greeting);
      expect([state, replies?.map(({ text }) => text)]).toEqual(["answered", ["At last."]]);
      expect(failures).toBe(3);
    });

    it("asks for permission, which its definition refuses", async () => {
      provider.answer = ({ latest }) =>
        latest.includes("tool_result")
          ? say("I may not.")
          : call("Bash", { command: "touch /session/workspace/made" });
      const { sessionId, state } = await api.ask("strict", "1", "Make a file.", { agent: "strict" });
      expect(state).toBe("answered");
      expect(provider.requests.at(-1)?.said.join("\n")).toMatch(
        /tool_result .*(denied|reject|refus|doesn't want)/i,
      );
      await expect(api.file(sessionId, "workspace/made")).rejects.toThrow("404");
    });

    it("sends a message by the fleet's tool", async () => {
      provider.answer = ({ latest }) =>
        latest.includes("tool_result")
          ? say("Done.")
          : call("mcp__longshore__send_message", { text: "On my way." });
      const answer = await api.ask("tool", "1", "Tell them.");
      expect([answer.state, textOf(answer)]).toEqual(["answered", "On my way.|Done."]);
    });
  });
}
