/** The command inside a sandbox that leads to the tools. */
export const HELPER = "/.longshore/init mcp";
/** How a client begins. */
export const HELLO = [
  {
    jsonrpc: "2.0",
    id: 1,
    method: "initialize",
    params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "test", version: "1" } },
  },
  { jsonrpc: "2.0", method: "notifications/initialized" },
];

/**
 * A command that calls a tool as any program in a sandbox can, by a client of a few lines; `then` runs with the answer in $answer.
 *
 * @param seconds how long the answer is waited for
 */
export function calling(name: string, args: object, then = 'echo "$answer"', seconds = 2): string {
  const call = { jsonrpc: "2.0", id: 2, method: "tools/call", params: { name, arguments: args } };
  const lines = [...HELLO, call].map(
    (line) => `printf '%s\\n' '${JSON.stringify(line).replaceAll("'", "'\\''")}'`,
  );
  return `$ answer=$( (${lines.join("; ")}; sleep ${seconds}) | ${HELPER} | grep '"id":2'); ${then}`;
}
