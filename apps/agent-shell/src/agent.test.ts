import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Readable, Writable } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import {
  type ClientConnection,
  client,
  ndJsonStream,
  type PromptResponse,
  type SessionUpdate,
} from "@agentclientprotocol/sdk";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));

type AgentProcess = ChildProcessByStdio<Writable, Readable, null>;

/** One process of the agent, driven by the SDK's own client as a worker drives it. */
class Driver {
  readonly process: AgentProcess;
  readonly connection: ClientConnection;
  readonly updates: SessionUpdate[] = [];
  context: object | undefined;
  readonly #listeners = new Set<() => void>();
  sessionId = "";

  constructor(home: string) {
    this.process = startAgent(home);
    this.connection = client({ name: "test" })
      .onNotification("session/update", ({ params }) => {
        if (params.sessionId === this.sessionId || this.sessionId === "") {
          if (params.update.sessionUpdate === "usage_update") this.context = params.update;
          else this.updates.push(params.update);
          for (const listener of this.#listeners) {
            listener();
          }
        }
      })
      .onRequest("session/request_permission", () => ({ outcome: { outcome: "selected", optionId: "no" } }))
      .connect(
        ndJsonStream(
          Writable.toWeb(this.process.stdin),
          Readable.toWeb(this.process.stdout) as ReadableStream<Uint8Array>,
        ),
      );
  }

  async initialize(): Promise<void> {
    await this.connection.agent.request("initialize", { protocolVersion: 1 });
  }

  async open(cwd: string): Promise<this> {
    await this.initialize();
    const session = await this.connection.agent.request("session/new", { cwd, mcpServers: [] });
    this.sessionId = session.sessionId;
    return this;
  }

  prompt(...texts: string[]): Promise<PromptResponse> {
    this.updates.length = 0;
    return this.connection.agent.request("session/prompt", {
      sessionId: this.sessionId,
      prompt: texts.map((text) => ({ type: "text", text: `[2026-01-02T03:04:05Z Ada in http/c1]\n${text}` })),
    });
  }

  /** The fleet's rule: the text after the last tool call. */
  get reply(): string {
    const last = this.updates.findLastIndex((update) => update.sessionUpdate.startsWith("tool_call"));
    return this.updates
      .slice(last + 1)
      .map(textOf)
      .join("");
  }

  /** Resolves when the streamed text so far contains `part`. */
  async streamed(part: string): Promise<void> {
    for (;;) {
      if (this.updates.map(textOf).join("").includes(part)) {
        return;
      }
      await new Promise<void>((resolve) => {
        const listener = (): void => {
          this.#listeners.delete(listener);
          resolve();
        };
        this.#listeners.add(listener);
      });
    }
  }
}

function startAgent(home: string): AgentProcess {
  return spawn(process.execPath, [MAIN], {
    env: { ...process.env, HOME: home },
    stdio: ["pipe", "pipe", "ignore"],
  });
}

function textOf(update: SessionUpdate): string {
  return update.sessionUpdate === "agent_message_chunk" && update.content.type === "text"
    ? update.content.text
    : "";
}

/** Whether a process runs; one that has ended and waits to be reaped does not. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** Nobody is told of the end of a process that is no child of theirs: this asks until it is so. */
async function gone(pid: number): Promise<void> {
  while (isAlive(pid)) {
    await setImmediate();
  }
}

describe("agent-shell", () => {
  let root: string;
  let home: string;
  let workspace: string;
  const started: AgentProcess[] = [];

  const drive = (): Driver => {
    const driver = new Driver(home);
    started.push(driver.process);
    return driver;
  };

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), "agent-shell-"));
    home = join(root, "home");
    workspace = join(root, "workspace");
    await Promise.all(
      [home, workspace, join(root, "inbox/m1")].map((path) => mkdir(path, { recursive: true })),
    );
  });

  afterEach(async () => {
    for (const child of started.splice(0)) {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill("SIGKILL");
        await once(child, "exit");
      }
    }
    await rm(root, { recursive: true });
  });

  describe("commands", () => {
    it("streams output inside a tool call and says it again after it", async () => {
      const agent = await drive().open(workspace);
      const { stopReason } = await agent.prompt("$ echo one; echo two >&2; pwd");
      expect(stopReason).toBe("end_turn");
      expect(agent.updates[0]).toMatchObject({
        sessionUpdate: "tool_call",
        status: "in_progress",
        kind: "execute",
      });
      expect(agent.updates.slice(1, -2).map(textOf).join("")).toBe(agent.reply);
      expect(agent.reply).toBe(`one\ntwo\n${workspace}\n`);
      expect(agent.updates.at(-2)).toMatchObject({ sessionUpdate: "tool_call_update", status: "completed" });
    });

    it("streams before the command has ended", async () => {
      const agent = await drive().open(workspace);
      const answer = agent.prompt("$ mkfifo go; echo started; cat go; echo done");
      await agent.streamed("started");
      await writeFile(join(workspace, "go"), "gone on\n");
      await answer;
      expect(agent.reply).toBe("started\ngone on\ndone\n");
    });

    it("names the exit code and marks the call failed", async () => {
      const agent = await drive().open(workspace);
      await agent.prompt("$ echo no; exit 3");
      expect(agent.reply).toBe("no\n\n[exit code 3]");
      expect(agent.updates.find((update) => update.sessionUpdate === "tool_call_update")).toMatchObject({
        status: "failed",
        rawOutput: { exitCode: 3 },
      });
    });

    it("answers nothing to a command that says nothing", async () => {
      const agent = await drive().open(workspace);
      await agent.prompt("$ true");
      expect(agent.updates.map(textOf).join("")).toBe("");
    });

    it("bounds the reply, streams all", async () => {
      const agent = await drive().open(workspace);
      await agent.prompt("$ head -c 300000 /dev/zero | tr '\\0' 'ä' | head -c 300000");
      expect(agent.reply.length).toBeLessThan(66_000);
      expect(agent.reply).toMatch(/\[cut: \d+ more characters\]$/);
      expect(agent.updates.map(textOf).join("").length).toBeGreaterThan(300_000);
    });

    it("does not wait for what a command left in the background", async () => {
      const agent = await drive().open(workspace);
      await agent.prompt("$ sleep 1000 & echo $!");
      const pid = Number.parseInt(agent.reply, 10);
      expect(isAlive(pid)).toBe(true);
      process.kill(pid, "SIGKILL");
    });

    it("runs every command of a prompt", async () => {
      const agent = await drive().open(workspace);
      await agent.prompt("$ echo 1 > a", "$ echo 2 > b", "$ cat a b");
      expect(agent.reply).toBe("1\n2\n");
    });

    it("cancels with the whole process group, and then takes the next turn", async () => {
      const agent = await drive().open(workspace);
      const answer = agent.prompt("$ (trap '' TERM; echo $$ inner; sleep 1000) & echo pid $!; wait");
      await agent.streamed("inner");
      await agent.streamed("pid ");
      const pid = Number(/pid (\d+)/.exec(agent.updates.map(textOf).join(""))?.[1]);
      await agent.connection.agent.notify("session/cancel", { sessionId: agent.sessionId });
      expect((await answer).stopReason).toBe("cancelled");
      await gone(pid);
      await agent.prompt("$ echo next");
      expect(agent.reply).toBe("next\n");
    });

    it("refuses a second prompt while one runs", async () => {
      const agent = await drive().open(workspace);
      const first = agent.prompt("$ mkfifo go; echo ready; cat go");
      await agent.streamed("ready");
      await expect(agent.prompt("$ true")).rejects.toThrow(/running/);
      await writeFile(join(workspace, "go"), "");
      await first;
    });

    it("ends with its client, and the running command with it", async () => {
      const agent = await drive().open(workspace);
      agent.prompt("$ echo pid $$; sleep 1000").catch(() => undefined);
      await agent.streamed("pid ");
      await agent.streamed("\n");
      const pid = Number(/pid (\d+)/.exec(agent.updates.map(textOf).join(""))?.[1]);
      agent.process.stdin.end();
      const [code] = await once(agent.process, "exit");
      expect(code).toBe(0);
      await gone(pid);
    });
  });

  describe("anything else", () => {
    it("is answered with sender, attachments, files and history", async () => {
      const agent = await drive().open(workspace);
      await writeFile(join(root, "inbox/m1/zone.tab"), "12345");
      await writeFile(join(workspace, "notes"), "");
      await agent.prompt("$ true");
      agent.updates.length = 0;
      await agent.connection.agent.request("session/prompt", {
        sessionId: agent.sessionId,
        prompt: [
          { type: "text", text: "[2026-01-02T03:04:05Z Ada in http/c1]\nhello" },
          {
            type: "resource_link",
            name: "zone.tab",
            uri: pathToFileURL(join(root, "inbox/m1/zone.tab")).href,
          },
        ],
      });
      expect(agent.reply).toBe(
        [
          "I saw a message of 5 characters from Ada in http/c1.",
          "Attachment zone.tab: 5 bytes",
          "Files: 2.",
          "- inbox/m1/zone.tab: 5 bytes",
          "- workspace/notes: 0 bytes",
          "I remember 1 earlier message.",
          "",
        ].join("\n"),
      );
    });
  });

  describe("resume", () => {
    it("goes on counting in another process", async () => {
      const first = await drive().open(workspace);
      await first.prompt("$ true", "$ true");
      const second = drive();
      await second.initialize();
      await second.connection.agent.request("session/resume", { sessionId: first.sessionId, cwd: workspace });
      second.sessionId = first.sessionId;
      await second.prompt("hello");
      expect(second.reply).toContain("I remember 2 earlier messages.");
    });

    it("replays the conversation on load", async () => {
      const first = await drive().open(workspace);
      await first.prompt("$ echo 42");
      const second = drive();
      await second.initialize();
      await second.connection.agent.request("session/load", {
        sessionId: first.sessionId,
        cwd: workspace,
        mcpServers: [],
      });
      expect(second.updates).toMatchObject([
        { sessionUpdate: "user_message_chunk", content: { text: "$ echo 42" } },
        { sessionUpdate: "agent_message_chunk", content: { text: "42\n" } },
      ]);
    });

    it.each(["shell-0000000000000000", "../../etc/passwd"])(
      "refuses the unknown session %s",
      async (sessionId) => {
        const agent = drive();
        await agent.initialize();
        await expect(
          agent.connection.agent.request("session/resume", { sessionId, cwd: dirname(home) }),
        ).rejects.toThrow(/not found/i);
      },
    );
  });

  describe("behaviours", () => {
    it("!crash ends the process in mid-turn", async () => {
      const agent = await drive().open(workspace);
      const exit = once(agent.process, "exit");
      await expect(agent.prompt("!crash")).rejects.toThrow();
      expect((await exit)[0]).toBe(70);
    });

    it("!error answers with an error", async () => {
      const agent = await drive().open(workspace);
      await expect(agent.prompt("!error of mine")).rejects.toThrow(/of mine/);
    });

    it("!permission asks and tells the outcome", async () => {
      const agent = await drive().open(workspace);
      await agent.prompt("!permission to test");
      expect(agent.reply).toBe("permission: no\n");
    });

    it("!hang minds neither cancel nor SIGTERM", async () => {
      const agent = await drive().open(workspace);
      const answer = agent.prompt("!hang");
      await agent.connection.agent.notify("session/cancel", { sessionId: agent.sessionId });
      agent.process.kill("SIGTERM");
      await agent.initialize();
      agent.process.kill("SIGKILL");
      await expect(answer).rejects.toThrow();
    });

    it("an unknown word is a message like any other", async () => {
      const agent = await drive().open(workspace);
      await agent.prompt("!toString");
      expect(agent.reply).toContain("I saw a message of 9 characters from Ada");
    });

    it.each([
      ["!garbage", ["no json\n", "wrote garbage"]],
      ["!flood 1", [`${"x".repeat(2 ** 20)}\n`, "wrote a line of 1 MiB"]],
      ["!stray", ['"id":987654321,', "stray of another session", '"id":3,', "second answer", '"id":3,']],
    ])("%s shows on the raw stream", async (text, parts) => {
      const child = startAgent(home);
      started.push(child);
      const send = (id: number, method: string, params: object): boolean =>
        child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", id, method, params })}\n`);
      const steps = [
        { after: /"id":1,/, send: () => send(2, "session/new", { cwd: workspace, mcpServers: [] }) },
        {
          after: /"sessionId":"(shell-\w+)"/,
          send: (sessionId = "") =>
            send(3, "session/prompt", { sessionId, prompt: [{ type: "text", text }] }),
        },
        { after: /"id":3,.*\n$/, send: () => child.stdin.end() },
      ];
      send(1, "initialize", { protocolVersion: 1 });
      let output = "";
      for await (const chunk of child.stdout.setEncoding("utf8")) {
        output += chunk;
        const match = steps[0]?.after.exec(output);
        if (match) {
          steps.shift()?.send(match[1]);
        }
      }
      let from = 0;
      for (const part of parts) {
        const found = output.indexOf(part, from);
        expect(found, part.slice(0, 40)).toBeGreaterThanOrEqual(0);
        from = found + part.length;
      }
    });
  });
});
