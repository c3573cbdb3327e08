import { homedir } from "node:os";
import { Readable, Writable } from "node:stream";
import { ndJsonStream } from "@agentclientprotocol/sdk";
import { shellAgent } from "./agent.ts";

const stream = ndJsonStream(
  Writable.toWeb(process.stdout),
  Readable.toWeb(process.stdin) as ReadableStream<Uint8Array>,
);
const connection = shellAgent({
  home: homedir(),
  stdout: process.stdout,
  exit: (code) => process.exit(code),
}).connect(stream);

// As process 1 of a container nothing ends this process but itself: neither a lost client nor SIGTERM.
// Closing the connection aborts its requests, and with them the commands that run.
process.on("SIGTERM", () => {
  process.exitCode = 143;
  connection.close();
});
void connection.closed.then(() => process.exit());
