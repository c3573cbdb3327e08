import { Readable, Writable } from "node:stream";
import {
  type ClientConnection,
  client,
  type InitializeResponse,
  type McpServer,
  ndJsonStream,
  PROTOCOL_VERSION,
  type RequestPermissionRequest,
  type RequestPermissionResponse,
  type SessionUpdate,
  type StopReason,
} from "@agentclientprotocol/sdk";
import { type Sandbox, TOOLS_COMMAND } from "@longshore/sandbox";
import {
  type AgentDefinition,
  agentContextSchema,
  type Clock,
  type TokenCounts,
  tokenCountsSchema,
  tokenKinds,
} from "@longshore/shared";
import {
  type Agent,
  type AgentUpdate,
  CANCEL_GRACE_MS,
  endsAtOnce,
  type PromptOptions,
  type TurnPrompt,
} from "./agent.ts";
import { boundAnswers } from "./bound-answers.ts";
import { AgentExitedError, AgentOutOfMemoryError, AgentRefusedError, TurnTimeoutError } from "./errors.ts";
import { buildPrompt } from "./prompt.ts";
import { OPTION_MAX, OPTIONS_MAX, QUESTION_WAIT_MS } from "./question.ts";
import { TurnLimits } from "./turn-limits.ts";

/** How long an agent may take until it is ready for its first prompt, in ms. */
const START_LIMIT_MS = 60_000;
/** After its output ended, how long to wait for the news how the agent's process ended, in ms. */
const EXIT_NEWS_MS = 5_000;

/** Longest session id of an agent's own, in characters. */
const SESSION_ID_MAX = 1_024;

/** Names of the errors by which the worker itself ends a connection. */
const CUT_OFF: ReadonlySet<string> = new Set(["MessageTooLargeError", "UnreadAnswersError"]);

const WORKING_DIRECTORY = "/session/workspace";

const [TOOLS_PROGRAM = "", ...TOOLS_ARGUMENTS] = TOOLS_COMMAND;
/** The fleet's tools, which the agent reaches without a network. */
const MCP_SERVERS: McpServer[] = [
  { name: "longshore", command: TOOLS_PROGRAM, args: TOOLS_ARGUMENTS, env: [] },
];

/** Of every session that is opened. */
const SESSION_PLACE = { cwd: WORKING_DIRECTORY, mcpServers: MCP_SERVERS };

/**
 * An ACP agent in a sandbox, with the worker as its client.
 *
 * connected → (`initialize`) ready ⇄ (`openAhead`, `closeAhead`) opened; both → (`open`) in a session ⇄ (`prompt`) in a turn; from everywhere → ended,
 * when the process or its output ends. A request that is under way then fails with how it ended. Nothing
 * that the agent does is trusted: its lines are bounded, updates of another session or outside a turn are
 * left out, and every wait has a limit.
 */
export class AcpAgent implements Agent {
  readonly #sandbox: Sandbox;
  readonly #definition: AgentDefinition;
  readonly #clock: Clock;
  readonly #connection: ClientConnection;
  #capabilities: InitializeResponse["agentCapabilities"];
  #sessionId: string | undefined;
  /** A session that was opened ahead and is nobody's yet. */
  #opened: string | undefined;
  #onUpdate: ((update: SessionUpdate) => void) | undefined;
  /** In a turn. */
  #ask: PromptOptions["ask"] | undefined;
  /** Resolves when the agent is gone, by itself or by `close`. */
  readonly ended: Promise<void>;
  #hasEnded = false;

  constructor(sandbox: Sandbox, definition: AgentDefinition, clock: Clock) {
    this.#sandbox = sandbox;
    this.#definition = definition;
    this.#clock = clock;
    this.#connection = client({ name: "longshore" })
      .onNotification("session/update", ({ params }) => {
        if (params.sessionId === this.#sessionId) this.#onUpdate?.(params.update);
      })
      .onRequest("session/request_permission", async ({ params }) =>
        definition.permissions === "ask"
          ? await askPermission(this.#ask, params)
          : answerPermission(definition.permissions, params),
      )
      .connect(
        boundAnswers(
          ndJsonStream(
            Writable.toWeb(sandbox.stdin),
            Readable.toWeb(sandbox.stdout) as ReadableStream<Uint8Array>,
            { maxMessageBytes: definition.limits.output },
          ),
        ),
      );
    // How it ended is told by the request that fails; between turns it only matters that it did.
    this.ended = Promise.race([this.#connection.closed, sandbox.exited])
      .catch(() => undefined)
      .then(() => {
        this.#hasEnded = true;
      });
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** @throws TurnTimeoutError, AgentExitedError, AgentOutOfMemoryError, AgentRefusedError, or the signal's reason */
  async initialize(signal: AbortSignal): Promise<void> {
    const { agentCapabilities } = await this.#startRequest("initialize", signal, () =>
      this.#connection.agent.request("initialize", {
        protocolVersion: PROTOCOL_VERSION,
        clientInfo: { name: "longshore", version: "0.1.0" },
        clientCapabilities: {},
      }),
    );
    this.#capabilities = agentCapabilities;
  }

  /**
   * Begins a session before it is known for whom, where the agent can close it again: `open` gives it to a session of the
   * fleet that is new.
   */
  async openAhead(signal: AbortSignal): Promise<void> {
    if (this.#capabilities?.sessionCapabilities?.close) this.#opened = await this.#openNew(signal);
  }

  /**
   * Closes what was opened ahead. Before the directory is another one: nothing may run on what was there.
   *
   * @throws as `open`
   */
  async closeAhead(signal: AbortSignal): Promise<void> {
    const sessionId = this.#opened;
    if (sessionId === undefined) return;
    this.#opened = undefined;
    await this.#startRequest("session/close", signal, () =>
      this.#connection.agent.request("session/close", { sessionId }),
    );
  }

  /** Whether a session was opened ahead. */
  get isOpen(): boolean {
    return this.#opened !== undefined;
  }

  /**
   * Continues the agent's own session of an earlier activation where the agent can, else begins a new one, or takes the one
   * that was opened ahead. Gives the id to continue it by.
   */
  async open(earlier: string | undefined, signal: AbortSignal): Promise<string> {
    if (earlier !== undefined) {
      const method = this.#capabilities?.sessionCapabilities?.resume
        ? "session/resume"
        : this.#capabilities?.loadSession
          ? "session/load"
          : undefined;
      if (method !== undefined) {
        try {
          await this.#startRequest(method, signal, async () => {
            if (method === "session/resume") {
              await this.#connection.agent.request("session/resume", {
                sessionId: earlier,
                ...SESSION_PLACE,
              });
            } else
              await this.#connection.agent.request("session/load", { sessionId: earlier, ...SESSION_PLACE });
          });
          this.#sessionId = earlier;
          return earlier;
        } catch (error) {
          // It may have forgotten it (its files are its own); a new session is better than none.
          if (!(error instanceof AgentRefusedError)) throw error;
        }
      }
    }
    const opened = this.#opened;
    this.#opened = undefined;
    // It may have died since: that is no prompt's fault.
    if (opened !== undefined && this.#hasEnded) throw await this.#explain("session/new", "it has ended");
    this.#sessionId = opened ?? (await this.#openNew(signal));
    return this.#sessionId;
  }

  async #openNew(signal: AbortSignal): Promise<string> {
    const { sessionId } = await this.#startRequest("session/new", signal, () =>
      this.#connection.agent.request("session/new", { ...SESSION_PLACE }),
    );
    // It goes into every commit from here on.
    if (typeof sessionId !== "string" || sessionId === "" || sessionId.length > SESSION_ID_MAX) {
      const reason = `no session id of 1 to ${SESSION_ID_MAX} characters`;
      throw new AgentRefusedError("session/new", reason, this.#sandbox.stderrTail());
    }
    return sessionId;
  }

  /**
   * One turn. Rejects with the signal's reason when that ended it, with a `TurnTimeoutError` beyond the
   * turn's limit or its idle limit, and with how the agent ended or failed. An agent that was asked to cancel and
   * gave no answer is of no use any more: it counts as ended.
   */
  async prompt(asked: TurnPrompt, options: PromptOptions): Promise<StopReason> {
    options.signal.throwIfAborted();
    const prompt = await buildPrompt(asked, this.#capabilities?.promptCapabilities ?? {});
    const stderr = () => this.#sandbox.stderrTail();
    const limits = new TurnLimits(this.#definition.limits, this.#clock, stderr, options.askedUntil);
    this.#ask = options.ask;
    this.#onUpdate = (update) => {
      limits.sign();
      const told = updateOf(update);
      if (told !== undefined) options.onUpdate(told);
    };
    const sessionId = this.#sessionId as string;
    const stop = AbortSignal.any([limits.signal, options.signal]);
    let hasAnswered = false;
    try {
      const answer = await this.#request("session/prompt", stop, CANCEL_GRACE_MS, () => {
        const answer = this.#connection.agent.request("session/prompt", { sessionId, prompt });
        const cancel = () =>
          void this.#connection.agent.notify("session/cancel", { sessionId }).catch(() => undefined);
        stop.addEventListener("abort", cancel, { once: true });
        return answer.finally(() => stop.removeEventListener("abort", cancel));
      });
      hasAnswered = true;
      const tokens = tokensOf(answer);
      if (tokens !== undefined) options.onUpdate({ type: "tokens", tokens });
      // What a cancelled turn answers is not the answer.
      stop.throwIfAborted();
      return answer.stopReason;
    } finally {
      if (stop.aborted && !hasAnswered) this.close();
      this.#onUpdate = undefined;
      this.#ask = undefined;
      limits.stop();
    }
  }

  stderrTail(): string {
    return this.#sandbox.stderrTail();
  }

  close(): void {
    this.#hasEnded = true;
    this.#connection.close();
  }

  async #startRequest<T>(method: string, signal: AbortSignal, send: () => Promise<T>): Promise<T> {
    const limit = new AbortController();
    const timer = setTimeout(
      () => limit.abort(new TurnTimeoutError("start", START_LIMIT_MS, this.#sandbox.stderrTail())),
      START_LIMIT_MS,
    );
    try {
      return await this.#request(method, AbortSignal.any([limit.signal, signal]), 0, send);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Sends a request; waits for its answer, for the agent's end, or until `graceMs` after the signal. */
  async #request<T>(
    method: string,
    signal: AbortSignal,
    graceMs: number,
    send: () => Promise<T>,
  ): Promise<T> {
    signal.throwIfAborted();
    let graceTimer: NodeJS.Timeout | undefined;
    let onAbort: (() => void) | undefined;
    const aborted = new Promise<never>((_, reject) => {
      onAbort = () => {
        // A sandbox whose lease is lost is paused: it can't answer any more.
        const waitMs = endsAtOnce(signal.reason) ? 0 : graceMs;
        graceTimer = setTimeout(() => reject(signal.reason), waitMs);
      };
      signal.addEventListener("abort", onAbort, { once: true });
    });
    try {
      return await Promise.race([send(), aborted]);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw await this.#explain(method, error);
    } finally {
      clearTimeout(graceTimer);
      if (onAbort) signal.removeEventListener("abort", onAbort);
    }
  }

  /** Why a request failed: by the end of the agent's process, or by what the agent said. */
  async #explain(method: string, error: unknown): Promise<unknown> {
    // An agent whose output is not read any more may end by that: its end then is not the reason.
    const wasCutOff = error instanceof Error && CUT_OFF.has(error.name);
    if (wasCutOff || !this.#connection.signal.aborted)
      return new AgentRefusedError(method, error, this.#sandbox.stderrTail());
    let timer: NodeJS.Timeout | undefined;
    const noNews = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), EXIT_NEWS_MS);
    });
    try {
      const exit = await Promise.race([this.#sandbox.exited, noNews]);
      const stderr = this.#sandbox.stderrTail();
      // Still running: it closed its output, or wrote what can't be read.
      if (exit === undefined) return new AgentRefusedError(method, error, stderr);
      return exit.outOfMemory
        ? new AgentOutOfMemoryError(this.#definition.limits.memory, stderr)
        : new AgentExitedError(exit.exitCode, exit.signal, stderr);
    } catch (engineError) {
      return engineError;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** What the fleet makes of an update; undefined for what it has no use for. */
function updateOf(update: SessionUpdate): AgentUpdate | undefined {
  if (update.sessionUpdate === "agent_message_chunk" && update.content.type === "text")
    return { type: "text", text: update.content.text };
  if (update.sessionUpdate === "tool_call" || update.sessionUpdate === "tool_call_update") {
    const { toolCallId: id, title, status } = update;
    return { type: "tool", id, title: title ?? undefined, status: status ?? undefined };
  }
  if (update.sessionUpdate === "plan")
    return { type: "plan", entries: update.entries.map(({ content, status }) => ({ content, status })) };
  if (update.sessionUpdate === "usage_update") {
    const { used: usedTokens, size: sizeTokens, cost } = update;
    const context = agentContextSchema.safeParse({
      usedTokens,
      sizeTokens,
      cost: cost ? { amount: cost.amount, currency: cost.currency } : undefined,
    });
    return context.success ? { type: "context", context: context.data } : undefined;
  }
  return undefined;
}

/**
 * The turn's tokens by its answer's `usage`. That is not in the protocol's stable part yet, so an answer in which it
 * can't be understood is one without it.
 */
function tokensOf(answer: object): TokenCounts | undefined {
  if (!("usage" in answer) || typeof answer.usage !== "object" || answer.usage === null) return undefined;
  const usage = answer.usage as Readonly<Record<string, unknown>>;
  const counted = tokenKinds.flatMap((kind) => {
    const count = usage[`${kind}Tokens`];
    return count === undefined || count === null ? [] : [[kind, count]];
  });
  if (counted.length === 0) return undefined;
  return tokenCountsSchema.safeParse(Object.fromEntries(counted)).data;
}

/** How much is shown of what an agent wants to be allowed, in characters. */
const PERMISSION_TITLE_MAX = 1_000;

/** Without an answer, or with one that is none of the options, it is not allowed. */
async function askPermission(
  ask: PromptOptions["ask"] | undefined,
  request: RequestPermissionRequest,
): Promise<RequestPermissionResponse> {
  const options = request.options.slice(0, OPTIONS_MAX);
  const title = (request.toolCall.title ?? "something without a name").slice(0, PERMISSION_TITLE_MAX);
  const answer = await ask?.({
    text: `May I? ${title}`,
    options: options.map(({ name }) => name.slice(0, OPTION_MAX)),
    waitMs: QUESTION_WAIT_MS,
  }).catch(() => undefined);
  const chosen = answer?.option === undefined ? undefined : options[answer.option];
  if (chosen === undefined) return answerPermission("deny", request);
  return { outcome: { outcome: "selected", optionId: chosen.optionId } };
}

function answerPermission(
  policy: "allow" | "deny",
  { options }: RequestPermissionRequest,
): RequestPermissionResponse {
  const kinds = policy === "allow" ? ["allow_once", "allow_always"] : ["reject_once", "reject_always"];
  const option = options.find(({ kind }) => kinds.includes(kind));
  return { outcome: option ? { outcome: "selected", optionId: option.optionId } : { outcome: "cancelled" } };
}
