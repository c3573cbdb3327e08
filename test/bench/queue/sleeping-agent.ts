/**
 * The command line of an agent that does nothing in a turn but sleep, and then says "done": a few lines of shell, since
 * what a program of its own takes to start would be measured with it.
 *
 * @param turnSeconds how long it sleeps
 */
export function sleepingAgent(turnSeconds: number): readonly string[] {
  const answer = (result: string) => `printf '{"jsonrpc":"2.0","id":%s,"result":%s}\\n' "$id" '${result}'`;
  return [
    "/bin/sh",
    "-c",
    `while IFS= read -r line; do
  id=\${line##*'"id":'}; id=\${id%%[,\\}]*}
  case $line in
    *'"method":"initialize"'*) ${answer('{"protocolVersion":1,"agentCapabilities":{}}')} ;;
    *'"method":"session/new"'*) ${answer('{"sessionId":"s"}')} ;;
    *'"method":"session/prompt"'*)
      sleep ${turnSeconds}
      printf '%s\\n' '${UPDATE}'
      ${answer('{"stopReason":"end_turn"}')} ;;
  esac
done`,
  ];
}

const UPDATE = JSON.stringify({
  jsonrpc: "2.0",
  method: "session/update",
  params: {
    sessionId: "s",
    update: { sessionUpdate: "agent_message_chunk", content: { type: "text", text: "done" } },
  },
});

/** The same as a command of the `exec` contract. */
export function sleepingCommand(turnSeconds: number): readonly string[] {
  return ["/bin/sh", "-c", `sleep ${turnSeconds}; echo done`];
}
