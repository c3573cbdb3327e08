import { appendFile, mkdir, readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { Readable, Writable } from "node:stream";
import { agent, ndJsonStream, PROTOCOL_VERSION, RequestError } from "@agentclientprotocol/sdk";

// An agent of the Agent Client Protocol (https://agentclientprotocol.com): its client, here a worker, asks on standard
// input and is answered on standard output. Standard error is for the log.

/** What lies in the home directory is there again on the next host, so a session goes on where it was. */
const sessions = join(homedir(), ".{{name}}");
await mkdir(sessions, { recursive: true });
const fileOf = (sessionId: string) => join(sessions, `${sessionId.replaceAll(/[^\w-]/g, "")}.txt`);
/** Turns that were cancelled while they ran. */
const cancelled = new Set<string>();

const app = agent({ name: "{{name}}" })
  .onRequest("initialize", () => ({
    protocolVersion: PROTOCOL_VERSION,
    agentInfo: { name: "{{name}}", version: "0.1.0" },
    agentCapabilities: { sessionCapabilities: { resume: {} } },
    authMethods: [],
  }))
  .onRequest("session/new", async () => {
    const sessionId = crypto.randomUUID();
    await appendFile(fileOf(sessionId), "");
    return { sessionId };
  })
  .onRequest("session/resume", async ({ params }) => {
    await readFile(fileOf(params.sessionId)).catch(() => {
      throw RequestError.resourceNotFound(params.sessionId);
    });
    return {};
  })
  .onRequest("session/prompt", async ({ params, client }) => {
    const { sessionId, prompt } = params;
    cancelled.delete(sessionId);
    // A block is a message, with time, sender and conversation in its first line.
    const texts = prompt.flatMap((block) =>
      block.type === "text" ? [block.text.replace(/^\[.*\]\n/, "")] : [],
    );
    const before = (await readFile(fileOf(sessionId), "utf8")).split("\n").filter((line) => line !== "");
    const reply = `You said: ${texts.join(" ")}\nBefore that you had said ${before.length} things.`;
    // Ask a model here instead, and send its words as they come.
    for (const word of reply.split(/(?<= )/)) {
      if (cancelled.has(sessionId)) return { stopReason: "cancelled" };
      await client.notify("session/update", {
        sessionId,
        update: { sessionUpdate: "agent_message_chunk", content: { type: "text", text: word } },
      });
    }
    await appendFile(fileOf(sessionId), texts.map((text) => `${text.replaceAll("\n", " ")}\n`).join(""));
    return { stopReason: "end_turn" };
  })
  .onNotification("session/cancel", ({ params }) => {
    cancelled.add(params.sessionId);
  });

const connection = app.connect(
  ndJsonStream(Writable.toWeb(process.stdout), Readable.toWeb(process.stdin) as ReadableStream<Uint8Array>),
);
// The main process of a sandbox is ended by nothing but itself.
process.on("SIGTERM", () => connection.close());
await connection.closed;
process.exit();
