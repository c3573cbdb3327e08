/**
 * Runs the ACP agent that the arguments name, as its only client, and notes in home/times how long each prompt took to its first
 * text, from line to line, in ms.
 */
import { spawn } from "node:child_process";
import { appendFileSync } from "node:fs";

const [program, ...args] = process.argv.slice(1);
const agent = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
let promptedAt;
process.stdin.on("data", (bytes) => {
  if (bytes.includes('"session/prompt"')) promptedAt = performance.now();
  agent.stdin.write(bytes);
});
process.stdin.on("end", () => agent.stdin.end());
agent.stdout.on("data", (bytes) => {
  const took = performance.now() - promptedAt;
  process.stdout.write(bytes);
  if (promptedAt === undefined || !bytes.includes('"agent_message_chunk"')) return;
  promptedAt = undefined;
  appendFileSync("/session/home/times", took.toString().concat("\n"));
});
agent.on("exit", (code) => process.exit(code ?? 1));
