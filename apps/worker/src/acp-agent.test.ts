import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Transform } from "node:stream";
import { fileURLToPath } from "node:url";
import type { Sandbox, SandboxExit } from "@longshore/sandbox";
import {
  type AcceptedMessage,
  type AgentDefinition,
  FencedError,
  parseConfiguration,
  systemClock,
} from "@longshore/shared";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AcpAgent } from "./acp-agent.ts";
import type { AgentUpdate, PromptOptions } from "./agent.ts";

const SHELL = fileURLToPath(new URL("../../agent-shell/src/main.ts", import.meta.url));

let home: string;
let child: ChildProcess;

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "acp-agent-"));
});
afterEach(async () => {
  child.kill("SIGKILL");
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  await rm(home, { recursive: true, force: true });
});

/** A process of this machine in the place of a sandbox. */
function sandboxOf(...command: readonly string[]): Sandbox {
  const process_ = spawn(process.execPath, command, {
    cwd: home,
    env: { PATH: process.env.PATH, HOME: home },
    stdio: ["pipe", "pipe", "ignore"],
  });
  child = process_;
  const exited = once(process_, "exit").then(
    ([exitCode, signal]): SandboxExit => ({ exitCode, signal, outOfMemory: false }),
  );
  const nothing = async () => undefined;
  // There is no `/session` here.
  const stdin = new Transform({
    transform: (chunk: Buffer, _, done) =>
      done(null, chunk.toString().replaceAll("/session/workspace", home)),
  });
  stdin.pipe(process_.stdin.on("error", () => undefined));
  return {
    id: "test",
    stdin,
    stdout: process_.stdout,
    stderrTail: () => "",
    exited,
    pause: nothing,
    resume: nothing,
    stop: nothing,
    destroy: nothing,
  };
}

const CONFIGURATION = `
tenants: { acme: { keys: [{ id: test, hash: "sha256:${"0".repeat(64)}", scopes: [send] }] } }
agents: { shell: { tenant: acme, runtime: docker, image: "longshore/agent-shell:dev" } }
routes: [{ channel: http, agent: shell }]
channels: { http: {} }
`;

function definition(limits: Partial<AgentDefinition["limits"]>): AgentDefinition {
  const { configuration } = parseConfiguration(CONFIGURATION, { path: "/longshore.yaml", environment: {} });
  const { shell } = configuration.agents;
  if (shell === undefined) throw new Error("no agent");
  return { ...shell, limits: { ...shell.limits, turn: 60_000, idle: 60_000, output: 1024 ** 2, ...limits } };
}

const never = new AbortController().signal;

async function openShell(limits: Partial<AgentDefinition["limits"]> = {}): Promise<AcpAgent> {
  const agent = new AcpAgent(sandboxOf(SHELL), definition(limits), systemClock);
  await agent.initialize(never);
  await agent.open(undefined, never);
  return agent;
}

function saying(text: string): AcceptedMessage {
  const where = { agent: "shell", tenant: "acme", sessionId: "s1", channel: "http", conversation: "c" };
  const when = { seq: 1, acceptedAt: new Date(0).toISOString() };
  return {
    ...where,
    ...when,
    id: "m1",
    text,
    kind: "chat",
    wake: true,
    attachments: [],
    sender: { id: "u1" },
  };
}

function prompt(agent: AcpAgent, text: string, signal = never) {
  const updates: AgentUpdate[] = [];
  let onFirst: () => void;
  const first = new Promise<void>((resolve) => {
    onFirst = resolve;
  });
  const stopReason = agent.prompt(
    { turnId: "t", messages: [saying(text)], sent: [], destinations: {}, read: async () => Buffer.alloc(0) },
    {
      onUpdate: (update) => {
        updates.push(update);
        onFirst();
      },
      send: () => Promise.reject(new Error("an ACP agent sends by a tool")),
      ask: () => Promise.reject(new Error("nobody is there")),
      askedUntil: () => Number.NEGATIVE_INFINITY,
      tools: {} as PromptOptions["tools"],
      signal,
    },
  );
  return { stopReason, updates, first };
}

/** An agent that answers `initialize` and `session/new`, the latter as told, and then does what `body` says. */
const scripted = (result: string, body = "") => `
  const lines = require("node:readline").createInterface({ input: process.stdin });
  const say = (message) => process.stdout.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\\n");
  lines.on("line", (line) => {
    const { id, method } = JSON.parse(line);
    if (method === "initialize") say({ id, result: { protocolVersion: 1, agentCapabilities: {} } });
    if (method === "session/new") say({ id, result: ${result} });
    if (method === "session/prompt") { ${body} }
  });`;

function scriptedAgent(result: string, body?: string): AcpAgent {
  return new AcpAgent(sandboxOf("-e", scripted(result, body)), definition({}), systemClock);
}

describe("a turn", () => {
  it("ends with the agent's reason, and gives its updates", async () => {
    const { stopReason, updates } = prompt(await openShell(), "$ echo here");
    expect(await stopReason).toBe("end_turn");
    expect(JSON.stringify(updates)).toContain("here");
  });

  it("gives plans, what the context holds and the turn's tokens", async () => {
    const agent = await openShell();
    const { stopReason, updates } = prompt(agent, "!plan look\nwrite");
    await stopReason;
    expect(updates).toEqual([
      {
        type: "plan",
        entries: [
          { content: "look", status: "in_progress" },
          { content: "write", status: "pending" },
        ],
      },
      { type: "text", text: "a plan of 2 steps\n" },
      { type: "context", context: { usedTokens: 33, sizeTokens: 1_000_000 } },
      { type: "tokens", tokens: { input: 16, output: 17 } },
    ]);
  });

  it.each([
    "null",
    "7",
    "{}",
    "{ inputTokens: -1 }",
    "{ inputTokens: 1.5, outputTokens: 2 }",
    '{ inputTokens: "1" }',
    "{ inputTokens: 1e300 }",
  ])("has no tokens by a usage that makes no sense: %s", async (usage) => {
    const result = `{ stopReason: "end_turn", usage: ${usage} }`;
    const agent = scriptedAgent('{ sessionId: "s" }', `say({ id, result: ${result} });`);
    await agent.initialize(never);
    await agent.open(undefined, never);
    const { stopReason, updates } = prompt(agent, "hello");
    expect(await stopReason).toBe("end_turn");
    expect(updates).toEqual([]);
  });

  it("goes on over garbage, stray answers and updates of another session", async () => {
    const agent = await openShell();
    expect(await prompt(agent, "!garbage").stopReason).toBe("end_turn");
    const { stopReason, updates } = prompt(agent, "!stray");
    expect(await stopReason).toBe("end_turn");
    expect(JSON.stringify(updates)).not.toContain("another session");
  });

  it("fails with how the agent ended", async () => {
    const agent = await openShell();
    await expect(prompt(agent, "!crash").stopReason).rejects.toMatchObject({
      code: "AGENT_EXITED",
      exitCode: 70,
    });
    await agent.ended;
    expect(agent.hasEnded).toBe(true);
  });

  it("fails where a line is longer than the agent's output may be", async () => {
    const agent = await openShell({ output: 64 * 1024 });
    await expect(prompt(agent, "!flood 1").stopReason).rejects.toThrow(/65536 byte limit/);
  });

  it("fails with the agent's words, cut", async () => {
    const agent = await openShell();
    const error = await prompt(agent, `!error ${"x".repeat(50_000)}`).stopReason.catch((caught) => caught);
    expect(error).toMatchObject({ code: "AGENT_ERROR" });
    expect(error.message.length).toBeLessThan(2_000);
    expect(error.cause).toBeUndefined();
  });

  it.each([
    ["IDLE_TIMEOUT", { idle: 50 }, "$ sleep 60"],
    ["TURN_TIMEOUT", { turn: 50 }, "$ yes"],
  ] as const)(
    "ends with %s beyond that limit, the agent being asked to cancel",
    async (code, limits, text) => {
      await expect(prompt(await openShell(limits), text).stopReason).rejects.toMatchObject({ code });
    },
  );

  it("ends with the signal's reason where it is cancelled, and the agent serves on", async () => {
    const agent = await openShell();
    const stop = new AbortController();
    const { stopReason, first } = prompt(agent, "$ echo begun; sleep 60", stop.signal);
    await first;
    stop.abort(new Error("stopped"));
    await expect(stopReason).rejects.toThrow("stopped");
    expect(await prompt(agent, "$ echo again").stopReason).toBe("end_turn");
  });

  it("does not wait for an agent whose lease is lost: it is paused", async () => {
    const agent = await openShell();
    const stop = new AbortController();
    const { stopReason, first } = prompt(agent, "$ echo begun; sleep 60", stop.signal);
    await first;
    child.kill("SIGSTOP");
    stop.abort(new FencedError("test"));
    await expect(stopReason).rejects.toMatchObject({ code: "FENCED" });
  });

  it("ends where the agent asks on and reads no answer", async () => {
    const ask = `process.stdin.pause();
      const params = { sessionId: "s", options: [], toolCall: { toolCallId: "t".repeat(200) } };
      let next = 0;
      const more = () => { for (;;) if (!process.stdout.write(JSON.stringify(
        { jsonrpc: "2.0", id: "i".repeat(500) + next++, method: "session/request_permission", params }) + "\\n"))
        return process.stdout.once("drain", more); };
      more();`;
    const agent = scriptedAgent(`{ sessionId: "s" }`, ask);
    await agent.initialize(never);
    await agent.open(undefined, never);
    await expect(prompt(agent, "go").stopReason).rejects.toThrow(/answers unread/);
  });
});

describe("opening", () => {
  it.each([
    ["no text", "{ sessionId: 17 }"],
    ["empty", `{ sessionId: "" }`],
    ["longer than a commit should carry", `{ sessionId: "x".repeat(100_000) }`],
  ])("refuses an agent whose session id is %s", async (_, result) => {
    const agent = scriptedAgent(result);
    await agent.initialize(never);
    await expect(agent.open(undefined, never)).rejects.toMatchObject({ code: "AGENT_ERROR" });
  });

  it("continues the session of an earlier process", async () => {
    const first = await openShell();
    const id = await first.open(undefined, never);
    await prompt(first, "remember").stopReason;
    child.kill("SIGKILL");
    await first.ended;
    const second = new AcpAgent(sandboxOf(SHELL), definition({}), systemClock);
    await second.initialize(never);
    expect(await second.open(id, never)).toBe(id);
  });
});
