import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { McpServer } from "@agentclientprotocol/sdk";

interface ToolResult {
  readonly content?: readonly { readonly type: string; readonly text?: string }[];
  readonly tools?: readonly { readonly name: string }[];
  readonly isError?: boolean;
}

/**
 * Calls a tool of the first MCP server that is a program, and gives what it answers; without a name, the names of all. As
 * little of a client as that takes: a library would be most of this agent, and of the time that it takes to start.
 *
 * @param request a tool's name and its arguments as JSON
 */
export async function callTool(servers: readonly McpServer[], request: string): Promise<string> {
  const [, name = "", text = "{}"] = /^(\S*)\s*(\{.*\})?$/s.exec(request.trim()) ?? [];
  const server = servers.find((candidate) => "command" in candidate);
  if (server === undefined || !("command" in server)) return "there are no tools";
  const child = spawn(server.command, [...server.args], { stdio: ["pipe", "pipe", "inherit"] });
  child.stdin.on("error", () => undefined);
  try {
    await Promise.race([once(child, "spawn"), once(child, "error").then(([error]) => Promise.reject(error))]);
    const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    let id = 0;
    const ask = async (method: string, params: object): Promise<ToolResult> => {
      child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", id: ++id, method, params })}\n`);
      for (;;) {
        const { value, done } = await answers.next();
        if (done) throw new Error("the tools' server ended");
        const answer = JSON.parse(value);
        if (answer.id !== id) continue;
        return answer.result ?? { isError: true, content: [{ type: "text", text: answer.error?.message }] };
      }
    };
    await ask("initialize", {
      protocolVersion: "2025-06-18",
      capabilities: {},
      clientInfo: { name: "agent-shell", version: "0.1.0" },
    });
    child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", method: "notifications/initialized" })}\n`);
    if (name === "") return ((await ask("tools/list", {})).tools ?? []).map((tool) => tool.name).join("\n");
    const { content = [], isError } = await ask("tools/call", { name, arguments: JSON.parse(text) });
    const said = content.map((block) => block.text ?? `[${block.type}]`).join("\n");
    return isError ? `error: ${said}` : said;
  } finally {
    child.kill();
  }
}
