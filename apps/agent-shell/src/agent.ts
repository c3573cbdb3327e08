import type {
  JsonRpcId,
  McpServer,
  PromptRequest,
  PromptResponse,
  SessionUpdate,
} from "@agentclientprotocol/sdk";
import { type AgentApp, type AgentContext, agent, RequestError } from "@agentclientprotocol/sdk";
import { type BehaviourSurface, runBehaviour } from "./behaviour.ts";
import { BoundedText } from "./bounded-text.ts";
import { type CommandResult, runCommand } from "./command.ts";
import { History } from "./history.ts";
import { describeObservation } from "./observation.ts";
import { type PromptMessage, parsePrompt } from "./prompt.ts";

export interface ShellAgentOptions {
  /** The directory whose contents last as long as the session: histories are kept below it. */
  readonly home: string;
  readonly stdout: BehaviourSurface["stdout"];
  readonly exit: BehaviourSurface["exit"];
}

/** Characters of a command's output that the reply carries. */
const REPLY_LIMIT = 64 * 1024;

/** A character counts as a token; so many fit into a context, as it is told. */
const CONTEXT_CHARACTERS = 1_000_000;

interface Session {
  readonly history: History;
  readonly cwd: string;
  readonly tools: readonly McpServer[];
  /** Asked and answered since it was opened. */
  characters: number;
  /** Of the running turn; absent between turns. */
  turn?: AbortController;
}

/**
 * The reference ACP agent: no model, every path of a fleet.
 *
 * A session is *idle* or has one *turn*. `session/prompt` begins a turn and is refused while one runs;
 * `session/cancel` aborts it, which ends the running command's process group and answers `cancelled`. A
 * turn answers its messages one by one: `$ command` by the command's output, `!word` by a behaviour, anything
 * else by what the agent saw. What was asked and answered is then appended to the session's history.
 */
export function shellAgent(options: ShellAgentOptions): AgentApp {
  const sessions = new Map<string, Session>();

  const reopen = async (id: string, cwd: string, tools: readonly McpServer[] = []): Promise<Session> => {
    const history = await History.open(options.home, id);
    if (history === undefined) {
      throw RequestError.resourceNotFound(id);
    }
    const session = { history, cwd, tools, characters: 0 };
    sessions.set(id, session);
    return session;
  };

  return agent({ name: "agent-shell" })
    .onRequest("initialize", () => ({
      protocolVersion: 1,
      agentInfo: { name: "agent-shell", title: "Longshore's reference agent", version: "0.1.0" },
      agentCapabilities: {
        loadSession: true,
        sessionCapabilities: { resume: {}, close: {} },
        promptCapabilities: { image: true, embeddedContext: true },
      },
      authMethods: [],
    }))
    .onRequest("session/new", async ({ params }) => {
      const history = await History.create(options.home);
      sessions.set(history.id, { history, cwd: params.cwd, tools: params.mcpServers, characters: 0 });
      return { sessionId: history.id };
    })
    .onRequest("session/resume", async ({ params }) => {
      await reopen(params.sessionId, params.cwd, params.mcpServers);
      return {};
    })
    .onRequest("session/load", async ({ params, client }) => {
      const { history } = await reopen(params.sessionId, params.cwd, params.mcpServers);
      await replay(history, client);
      return {};
    })
    .onRequest("session/close", ({ params }) => {
      sessions.get(params.sessionId)?.turn?.abort();
      sessions.delete(params.sessionId);
      return {};
    })
    .onRequest("session/prompt", async ({ params, client, signal, requestId }) => {
      const session = sessions.get(params.sessionId);
      if (session === undefined) {
        throw RequestError.resourceNotFound(params.sessionId);
      }
      if (session.turn !== undefined) {
        throw RequestError.invalidRequest(undefined, "a turn of this session is running");
      }
      const turn = new AbortController();
      session.turn = turn;
      const abort = (): void => turn.abort();
      signal.addEventListener("abort", abort, { once: true });
      try {
        return await takeTurn(session, params, client, requestId, turn.signal, options);
      } finally {
        signal.removeEventListener("abort", abort);
        delete session.turn;
      }
    })
    .onNotification("session/cancel", ({ params }) => {
      sessions.get(params.sessionId)?.turn?.abort();
    });
}

async function takeTurn(
  session: Session,
  params: PromptRequest,
  client: AgentContext,
  requestId: JsonRpcId,
  signal: AbortSignal,
  options: ShellAgentOptions,
): Promise<PromptResponse & { readonly usage: Readonly<Record<string, number>> }> {
  const { messages, attachments, contents } = parsePrompt(params.prompt);
  const { sessionId } = params;
  const send = (update: SessionUpdate): Promise<void> =>
    client.notify("session/update", { sessionId, update });
  let reply = "";
  for (const [index, message] of messages.entries()) {
    const command = commandOf(message);
    if (command !== undefined) {
      reply = await answerCommand(command, session.cwd, signal, send);
    } else {
      const { tools } = session;
      const surface = { stdout: options.stdout, exit: options.exit, client, sessionId, requestId, tools };
      reply =
        (await runBehaviour(message.text, surface)) ??
        (await describeObservation(
          message,
          { attachments, contents },
          session.cwd,
          session.history.messageCount + index,
        ));
      await send(textChunk(`${reply}\n`));
    }
    if (signal.aborted) {
      break;
    }
  }
  await session.history.append(messages, reply);
  const inputTokens = messages.reduce((sum, { text }) => sum + text.length, 0);
  session.characters += inputTokens + reply.length;
  await send({ sessionUpdate: "usage_update", used: session.characters, size: CONTEXT_CHARACTERS });
  return {
    stopReason: signal.aborted ? "cancelled" : "end_turn",
    usage: { inputTokens, outputTokens: reply.length, totalTokens: inputTokens + reply.length },
  };
}

function commandOf(message: PromptMessage): string | undefined {
  const text = message.text.trim();
  return text.startsWith("$") ? text.slice(1).trim() : undefined;
}

/**
 * Runs a command as a tool call: its output streams while it runs, and is said again, bounded, after the
 * call has ended, where a model would draw its conclusion.
 */
async function answerCommand(
  command: string,
  cwd: string,
  signal: AbortSignal,
  send: (update: SessionUpdate) => Promise<void>,
): Promise<string> {
  const toolCallId = crypto.randomUUID();
  const output = new BoundedText(REPLY_LIMIT);
  await send({
    sessionUpdate: "tool_call",
    toolCallId,
    title: command.slice(0, 200),
    name: "shell",
    kind: "execute",
    status: "in_progress",
    rawInput: { command: command.slice(0, REPLY_LIMIT) },
  });
  const onOutput = async (text: string): Promise<void> => {
    output.append(text);
    await send(textChunk(text));
  };
  const result = await runCommand(command, { cwd, signal, onOutput });
  await send({
    sessionUpdate: "tool_call_update",
    toolCallId,
    status: result.exitCode === 0 ? "completed" : "failed",
    rawOutput: result,
  });
  const reply = `${output}${describeEnd(result)}`;
  if (reply !== "") {
    await send(textChunk(reply));
  }
  return reply;
}

function describeEnd({ exitCode, signal }: CommandResult): string {
  if (signal !== null) {
    return `\n[ended by ${signal}]`;
  }
  return exitCode === 0 ? "" : `\n[exit code ${exitCode}]`;
}

async function replay(history: History, client: AgentContext): Promise<void> {
  const send = (update: SessionUpdate): Promise<void> =>
    client.notify("session/update", { sessionId: history.id, update });
  for (const { messages, reply } of history.entries) {
    for (const { text } of messages) {
      await send({ sessionUpdate: "user_message_chunk", content: { type: "text", text } });
    }
    await send(textChunk(reply));
  }
}

function textChunk(text: string): SessionUpdate {
  return { sessionUpdate: "agent_message_chunk", content: { type: "text", text } };
}
