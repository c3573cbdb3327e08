import type { Socket } from "node:net";
import { type Logger, LongshoreError } from "@longshore/shared";
import { type CallToolResult, McpServer } from "@modelcontextprotocol/server";
import { StdioServerTransport } from "@modelcontextprotocol/server/stdio";
import { z } from "zod";
import { OPTION_MAX, OPTIONS_MAX, QUESTION_MAX, QUESTION_WAIT_MS } from "../question.ts";
import type { SessionTools } from "./session-tools.ts";

/** Longest request, in bytes. */
const REQUEST_BYTES_MAX = 2 * 1024 ** 2;
/** After each request a connection is not read for so long, in ms: nobody keeps a worker busy with requests. */
const PAUSE_PER_REQUEST_MS = 5;
const NEWLINE = 0x0a;
/** Calls of one sandbox that wait for the one that is being done; more are refused. */
const WAITING_MAX = 32;

/** Longest text of one message, in characters. */
const TEXT_MAX = 256 * 1024;
const FILES_MAX = 100;
const PATH_MAX = 4_096;
/** Longest prompt of a schedule, in characters; its bytes are bounded by `SCHEDULE_TEXT_MAX_BYTES`. */
const PROMPT_MAX = 16 * 1024;
const HISTORY_MAX = 100;
/** Of a reaction, in characters. */
const EMOJI_MAX = 64;
/** The longest that a question waits, in seconds. */
const QUESTION_SECONDS_MAX = 24 * 3_600;

/** The tools are called before their session is known, or as many at once as only a defect does. */
class ToolUnavailableError extends LongshoreError {
  constructor(reason: string) {
    super("TOOL_UNAVAILABLE", reason, { retryable: true });
  }
}

/**
 * The fleet's tools for one sandbox, as an MCP server. Whoever connects is in that sandbox, so the session is known by the
 * socket: no tool takes one as an argument. Calls are done one after another, questions beside them.
 *
 * unbound → (`bind`) bound → (`close`) closed. A sandbox that was started ahead of its session is unbound until then.
 */
export class ToolServer {
  readonly #log: Logger;
  readonly #servers = new Set<McpServer>();
  #session: SessionTools | undefined;
  #isClosed = false;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(log: Logger) {
    this.#log = log;
  }

  bind(session: SessionTools): void {
    this.#session = session;
  }

  /** Serves a connection from the sandbox. */
  readonly serve = (socket: Socket): void => {
    if (this.#isClosed) {
      socket.destroy();
      return;
    }
    const server = this.#makeServer();
    this.#servers.add(server);
    // The other side has ended, or said what can't be understood: what was answered is sent, and it is over.
    server.server.onclose = () => socket.destroySoon();
    socket.once("close", () => {
      this.#servers.delete(server);
      void server.close().catch(() => undefined);
    });
    slowDown(socket);
    server
      .connect(new StdioServerTransport(socket, socket, { maxBufferSize: REQUEST_BYTES_MAX }))
      .catch(() => socket.destroy());
  };

  close(): void {
    this.#isClosed = true;
    this.#session = undefined;
    for (const server of this.#servers) void server.close().catch(() => undefined);
  }

  #makeServer(): McpServer {
    const server = new McpServer({ name: "longshore", version: "0.1.0" });
    server.registerTool(
      "send_message",
      {
        description:
          "Sends a message to the conversation now, before your answer: for progress, or for a part of the result. Your answer at the end of the turn is sent anyway.",
        inputSchema: z.object({
          text: z.string().max(TEXT_MAX).describe("What to say."),
          files: z
            .array(z.string().min(1).max(PATH_MAX))
            .max(FILES_MAX)
            .default([])
            .describe("Paths of files below the working directory that go with it."),
          to: z
            .string()
            .min(1)
            .max(64)
            .optional()
            .describe("The name of another conversation that you may write to. Leave it out for this one."),
        }),
      },
      (message) =>
        this.#call("send_message", async (session) => {
          const { id, artifacts, refused } = await session.sendMessage(message);
          return { sent: true, messageId: id, files: artifacts.map(({ name }) => name), refused };
        }),
    );
    server.registerTool(
      "edit_message",
      {
        description: "Gives a message that you have sent another text.",
        inputSchema: z.object({
          messageId: z.string().max(128).describe("As send_message or read_history gave it."),
          text: z.string().min(1).max(TEXT_MAX).describe("The new text."),
        }),
      },
      ({ messageId, text }) =>
        this.#call("edit_message", async (session) => {
          await session.editMessage(messageId, text);
          return { edited: messageId };
        }),
    );
    server.registerTool(
      "react",
      {
        description: "Puts an emoji to a message.",
        inputSchema: z.object({
          emoji: z.string().min(1).max(EMOJI_MAX).describe("One emoji, or its name."),
          messageId: z
            .string()
            .max(128)
            .optional()
            .describe(
              "As send_message or read_history gave it. Leave it out for the one that you are answering.",
            ),
        }),
      },
      ({ emoji, messageId }) =>
        this.#call("react", async (session) => {
          await session.react(emoji, messageId);
          return { reacted: true };
        }),
    );
    server.registerTool(
      "ask_user",
      {
        description:
          "Asks whoever you are answering, and waits for their next message: for a decision that is theirs. Without options any answer is one.",
        inputSchema: z.object({
          question: z.string().min(1).max(QUESTION_MAX).describe("What to ask."),
          options: z
            .array(z.string().min(1).max(OPTION_MAX))
            .max(OPTIONS_MAX)
            .default([])
            .describe("Answers to choose from."),
          timeoutSeconds: z
            .int()
            .min(1)
            .max(QUESTION_SECONDS_MAX)
            .default(QUESTION_WAIT_MS / 1_000)
            .describe("How long to wait."),
        }),
      },
      ({ question: text, options, timeoutSeconds }) =>
        // Others may be called meanwhile.
        this.#call(
          "ask_user",
          async (session) => {
            const answer = await session.askUser({ text, options, waitMs: timeoutSeconds * 1_000 });
            if (answer === undefined) return { answered: false };
            const option = answer.option === undefined ? {} : { option: options[answer.option] };
            return { answered: true, answer: answer.text, ...option };
          },
          "beside",
        ),
    );
    server.registerTool(
      "share_file",
      {
        description:
          "Gives a link with which anyone can read a file below the working directory, as it is now, for a week: to cite in what you say.",
        inputSchema: z.object({ path: z.string().min(1).max(PATH_MAX).describe("The file.") }),
      },
      ({ path }) => this.#call("share_file", (session) => session.shareFile(path)),
    );
    server.registerTool(
      "schedule",
      {
        description:
          "Sends you a prompt later, in this conversation, as if somebody had written it: once (at), or again and again (cron).",
        inputSchema: z.object({
          prompt: z.string().min(1).max(PROMPT_MAX).describe("What you will be asked then."),
          at: z
            .string()
            .optional()
            .describe("Once, such as 2026-01-31T09:00:00+01:00; at most a year ahead."),
          cron: z.string().optional().describe("Five fields, such as 0 9 * * 1-5."),
          timeZone: z.string().optional().describe("Of the cron, such as Europe/Berlin."),
        }),
      },
      ({ prompt, ...timing }) => this.#call("schedule", (session) => session.schedule(prompt, timing)),
    );
    server.registerTool(
      "list_schedules",
      {
        description: "The prompts that you have scheduled in this conversation, and when each is sent next.",
        inputSchema: z.object({}),
        annotations: { readOnlyHint: true },
      },
      () => this.#call("list_schedules", (session) => session.listSchedules()),
    );
    server.registerTool(
      "cancel_schedule",
      {
        description: "Cancels a prompt that you have scheduled.",
        inputSchema: z.object({ id: z.string().max(64).describe("As list_schedules gives it.") }),
      },
      ({ id }) =>
        this.#call("cancel_schedule", async (session) => {
          await session.cancelSchedule(id);
          return { cancelled: id };
        }),
    );
    server.registerTool(
      "read_history",
      {
        description:
          "What was said in this conversation before, oldest first, with the outcome of each message.",
        inputSchema: z.object({
          limit: z.int().min(1).max(HISTORY_MAX).default(20).describe("How many entries, the newest ones."),
        }),
        annotations: { readOnlyHint: true },
      },
      ({ limit }) => this.#call("read_history", (session) => session.readHistory(limit)),
    );
    return server;
  }

  /** The tool's result as JSON, or its error as the agent may see it. */
  async #call(
    name: string,
    run: (session: SessionTools) => Promise<unknown>,
    order: "behind" | "beside" = "behind",
  ): Promise<CallToolResult> {
    try {
      const result = await this.#bounded(order, async () => {
        if (this.#session === undefined) throw new ToolUnavailableError("There is no session yet");
        return await run(this.#session);
      });
      return { content: [{ type: "text", text: JSON.stringify(result) }] };
    } catch (error) {
      this.#log.warn({ err: error, tool: name }, "a tool failed");
      // Others may say what is not the agent's to know.
      const message =
        error instanceof LongshoreError ? `${error.code}: ${error.message}` : "INTERNAL: it failed";
      return { isError: true, content: [{ type: "text", text: message }] };
    }
  }

  /** @param order of the call: behind those that were made before, or beside them */
  async #bounded<T>(order: "behind" | "beside", run: () => Promise<T>): Promise<T> {
    if (this.#waiting === WAITING_MAX) throw new ToolUnavailableError(`${WAITING_MAX} calls wait already`);
    this.#waiting++;
    const result = (order === "behind" ? this.#last.then(run) : run()).finally(() => this.#waiting--);
    if (order === "behind") this.#last = result.catch(() => undefined);
    return await result;
  }
}

/**
 * Reads no more while answers wait to be read, nor sooner than so many requests may take. One read brings 64 KiB at most,
 * so what is answered before is bounded, too.
 */
function slowDown(socket: Socket): void {
  const goOn = () => socket.resume();
  socket.on("data", (bytes: Buffer) => {
    let requests = 0;
    for (let at = bytes.indexOf(NEWLINE); at !== -1; at = bytes.indexOf(NEWLINE, at + 1)) requests++;
    if (requests === 0) return;
    socket.pause();
    const timer = setTimeout(() => {
      if (socket.writableNeedDrain) socket.once("drain", goOn);
      else goOn();
    }, requests * PAUSE_PER_REQUEST_MS);
    socket.once("close", () => clearTimeout(timer));
  });
}
