import { once } from "node:events";
import type { Writable } from "node:stream";
import { type AgentContext, type JsonRpcId, type McpServer, RequestError } from "@agentclientprotocol/sdk";
import { callTool } from "./tools.ts";

/** What a behaviour may touch. */
export interface BehaviourSurface {
  /** The agent's stdout, beside the ACP stream that writes to it too. */
  readonly stdout: Writable;
  /** Ends the agent's process at once. */
  readonly exit: (code: number) => never;
  readonly client: AgentContext;
  /** The ACP session and the request that is being answered. */
  readonly sessionId: string;
  readonly requestId: JsonRpcId;
  /** The MCP servers that the client offered. */
  readonly tools: readonly McpServer[];
}

const MEBIBYTE = 1024 * 1024;

/**
 * Behaviour, mostly bad, that no shell command can show, by the word that asks for it. One that returns
 * gives the answer, and the turn goes on. README.md lists them for users.
 */
const BEHAVIOURS: Readonly<
  Record<string, (argument: string, surface: BehaviourSurface) => Promise<string> | string>
> = {
  /** Dies in mid-turn. A command can't do that to an agent that is process 1. */
  crash: (_argument, surface) => surface.exit(70),

  /** Never answers, and minds neither `session/cancel` nor SIGTERM. */
  hang: () => {
    process.removeAllListeners("SIGTERM").on("SIGTERM", () => undefined);
    return new Promise(() => undefined);
  },

  /** Answers the prompt with a JSON-RPC error. */
  error: (argument) => {
    throw RequestError.internalError(undefined, argument || "asked for");
  },

  /** Asks for a permission and answers with the outcome. */
  permission: async (argument, { client, sessionId }) => {
    const { outcome } = await client.request("session/request_permission", {
      sessionId,
      toolCall: {
        toolCallId: "permission",
        title: argument || "something",
        kind: "other",
        status: "pending",
      },
      options: [
        { optionId: "yes", name: "Allow", kind: "allow_once" },
        { optionId: "no", name: "Deny", kind: "reject_once" },
      ],
    });
    return outcome.outcome === "selected" ? `permission: ${outcome.optionId}` : "permission: cancelled";
  },

  /** Says a plan, its steps given one a line, the first of them under way. */
  plan: async (argument, { client, sessionId }) => {
    const entries = argument.split("\n").map((content, index) => ({
      content,
      priority: "medium" as const,
      status: index === 0 ? ("in_progress" as const) : ("pending" as const),
    }));
    await client.notify("session/update", { sessionId, update: { sessionUpdate: "plan", entries } });
    return `a plan of ${entries.length} steps`;
  },

  /** Calls a tool of an MCP server: `NAME {"argument": ...}`; without a name, says which there are. */
  tool: async (argument, { tools }) => await callTool(tools, argument),

  /** Writes lines that are no JSON, no JSON-RPC and no UTF-8, then answers. */
  garbage: async (_argument, { stdout }) => {
    await write(stdout, 'no json\n{"jsonrpc":"2.0","method":\n[1,2]\n"text"\n{}\n');
    await write(stdout, Buffer.from([0x22, 0xff, 0xfe, 0xc3, 0x22, 0x0a]));
    return "wrote garbage";
  },

  /** One line of so many MiB on stdout, then answers; without a number the line never ends. */
  flood: async (argument, { stdout }) => {
    const count = argument === "" ? Number.POSITIVE_INFINITY : Number(argument);
    const block = Buffer.alloc(MEBIBYTE, "x");
    for (let written = 0; written < count; written += 1) {
      await write(stdout, block);
    }
    await write(stdout, "\n");
    return `wrote a line of ${count} MiB`;
  },

  /** Answers what was not asked, speaks for another session, and answers the prompt before its answer. */
  stray: async (_argument, { stdout, sessionId, requestId }) => {
    const update = (id: string, text: string): object => ({
      jsonrpc: "2.0",
      method: "session/update",
      params: {
        sessionId: id,
        update: { sessionUpdate: "agent_message_chunk", content: { type: "text", text } },
      },
    });
    const messages = [
      { jsonrpc: "2.0", id: 987_654_321, result: { stopReason: "end_turn" } },
      update("shell-0000000000000000", "stray of another session\n"),
      { jsonrpc: "2.0", id: requestId, result: { stopReason: "end_turn" } },
      update(sessionId, "stray after the answer\n"),
    ];
    await write(stdout, messages.map((message) => `${JSON.stringify(message)}\n`).join(""));
    return "second answer";
  },

  /** Fills the agent's own memory until something ends it (a command's memory is the command's). */
  memory: () => {
    const held: Buffer[] = [];
    for (;;) {
      held.push(Buffer.alloc(16 * MEBIBYTE, 1));
    }
  },
};

/**
 * Does what a message's text asks for by `!word argument`, and gives its answer. Gives undefined
 * where the text asks for none.
 */
export async function runBehaviour(text: string, surface: BehaviourSurface): Promise<string | undefined> {
  const [, word = "", argument = ""] = /^!(\w+)\s*(.*)$/s.exec(text.trim()) ?? [];
  return Object.hasOwn(BEHAVIOURS, word) ? BEHAVIOURS[word]?.(argument, surface) : undefined;
}

async function write(stdout: Writable, data: string | Buffer): Promise<void> {
  if (!stdout.write(data)) {
    await once(stdout, "drain");
  }
}
