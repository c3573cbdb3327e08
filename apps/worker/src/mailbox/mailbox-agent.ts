import { setTimeout as delay } from "node:timers/promises";
import type { Sandbox } from "@longshore/sandbox";
import {
  type AcceptedMessage,
  type AgentDefinition,
  type Clock,
  type ConversationPlace,
  type Logger,
  LongshoreError,
  SessionTree,
} from "@longshore/shared";
import { type Agent, CANCEL_GRACE_MS, endsAtOnce, type PromptOptions, type TurnPrompt } from "../agent.ts";
import {
  AgentExitedError,
  AgentOutOfMemoryError,
  AgentRefusedError,
  TooManyMessagesError,
} from "../errors.ts";
import { QUESTION_WAIT_MS } from "../question.ts";
import { answerAlias } from "../tools/session-tools.ts";
import { TurnLimits } from "../turn-limits.ts";
import type { TurnSandbox } from "../turn-sandbox.ts";
import { answerRow, type InboundRow, inboundBatches } from "./inbound-rows.ts";
import { type HandledRow, MailboxDatabases, type Outbound, type TaskRow } from "./mailbox-databases.ts";
import { type OutboundContent, type OutboundRequest, outboundContent } from "./outbound-content.ts";

/** How often the agent's database is read, in ms; the agent reads the worker's each second, or half second. */
const POLL_MS = 200;
/** A row that is followed by no other for so long is sent, and is not the turn's last word, in ms. */
const HELD_MS = 2_000;
/** After the last message was acknowledged, so many are held at most: which of them is the reply is not known before the end. */
const HELD_MESSAGES = 20;
/** Rows whose end is not noted yet are so many at most, and of those that are refused so many are logged. */
const NOTED_ROWS = 100;
const LOGGED_REFUSALS = 20;
/** Requests of one turn. */
const REQUESTS_MAX = 200;
/**
 * After the last message was acknowledged: an agent writes its answer after that, in the same breath, in ms. Where there is none, it has
 * so long without a sign of life to say that there will be one.
 */
const LAST_WORD_MS = 600;
const NO_WORD_MS = 15_000;

const HEARTBEAT = ".heartbeat";

type Message = Extract<OutboundContent, { type: "message" }> & {
  /** Of the row. */
  readonly id: string;
  readonly inReplyTo: string | null;
};

/**
 * An agent of NanoClaw's contract with two databases (docs/agents.md): the worker puts the turn's messages into `inbound.db`, the agent
 * acknowledges them in `outbound.db` and writes its messages there.
 *
 * It has a sandbox for each turn, like a command. One that goes on acknowledges a follow-up when it takes it, before it has
 * answered, so that nobody could tell when that turn is over; messages that come while it runs are the next turn's.
 *
 * A row that is followed by another one, or by nothing for `HELD_MS`, is sent at once; the turn's last is its reply. A sign of
 * life is a row, an acknowledgement, a touch of `.heartbeat`, or a tool that runs no longer than it was declared to.
 */
export class MailboxAgent implements Agent {
  readonly #sandbox: TurnSandbox;
  readonly #definition: AgentDefinition;
  readonly #slotDirectory: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #closed = Promise.withResolvers<void>();
  #hasEnded = false;

  constructor(options: {
    readonly sandbox: TurnSandbox;
    readonly definition: AgentDefinition;
    readonly slotDirectory: string;
    readonly clock: Clock;
    readonly log: Logger;
  }) {
    this.#sandbox = options.sandbox;
    this.#definition = options.definition;
    this.#slotDirectory = options.slotDirectory;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  get ended(): Promise<void> {
    return this.#closed.promise;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** What it remembers is in the session directory. */
  async open(): Promise<undefined> {
    return undefined;
  }

  async prompt(asked: TurnPrompt, options: PromptOptions): Promise<void> {
    const { signal } = options;
    const sandbox = await this.#sandbox.start(signal);
    const stderr = () => sandbox.stderrTail();
    const limits = new TurnLimits(this.#definition.limits, this.#clock, stderr, options.askedUntil);
    const stop = AbortSignal.any([limits.signal, signal]);
    const over = new AbortController();
    const turn = new MailboxTurn(asked, {
      databases: new MailboxDatabases(sandbox),
      slotDirectory: this.#slotDirectory,
      clock: this.#clock,
      log: this.#log,
      options,
      sign: () => limits.sign(),
      signal: AbortSignal.any([stop, over.signal]),
    });
    try {
      await Promise.race([turn.run(), turn.questionsFail, this.#failsWith(sandbox), rejectsWith(stop)]);
      stop.throwIfAborted();
      await sandbox.stop(CANCEL_GRACE_MS);
      this.#sandbox.discard();
    } catch (error) {
      if (stop.aborted && !endsAtOnce(stop.reason)) await sandbox.stop(CANCEL_GRACE_MS);
      if (stop.aborted) throw stop.reason;
      throw error instanceof LongshoreError && error.code === "MAILBOX_DATABASE"
        ? new AgentRefusedError("its databases", error, sandbox.stderrTail())
        : error;
    } finally {
      over.abort();
      limits.stop();
    }
  }

  stderrTail(): string {
    return this.#sandbox.stderrTail();
  }

  close(): void {
    this.#hasEnded = true;
    this.#closed.resolve();
  }

  async #failsWith(sandbox: Sandbox): Promise<never> {
    const { outOfMemory, exitCode, signal } = await sandbox.exited;
    if (outOfMemory) throw new AgentOutOfMemoryError(this.#definition.limits.memory, sandbox.stderrTail());
    throw new AgentExitedError(exitCode, signal, sandbox.stderrTail());
  }
}

type AskedQuestion = Extract<OutboundContent, { type: "question" }>;

interface MailboxTurnParts {
  readonly databases: MailboxDatabases;
  readonly slotDirectory: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly options: PromptOptions;
  /** The agent has given a sign of life. */
  readonly sign: () => void;
  /** Aborted when nobody waits for it any more. */
  readonly signal: AbortSignal;
}

/** One turn, with a program that has just been started. */
class MailboxTurn {
  readonly #parts: MailboxTurnParts;
  readonly #routes: readonly ConversationPlace[];
  readonly #destinations: TurnPrompt["destinations"];
  readonly #batches: readonly InboundRow[][];
  /** The newest row of the agent's that was read. */
  #seq = 0;
  /** Read, and not handed over yet; the last may be the reply. */
  #held: Message[] = [];
  /** Rows whose end is not noted yet. */
  readonly #handled: HandledRow[] = [];
  #refused = 0;
  /** What is still to be done, by the rows that ask for it. */
  readonly #requests: { readonly id: string; readonly request: OutboundRequest }[] = [];
  #requested = 0;
  /** Messages that were sent in this turn, by the ids of their rows. */
  readonly #sent = new Map<string, string>();
  readonly #turnId: string;
  /** Questions that are still to be asked, and the failure of one that was. */
  readonly #questions: AskedQuestion[] = [];
  readonly #questionsFail = Promise.withResolvers<never>();
  #hasSent = false;
  #lastSign = "";
  #lastSignAt = 0;
  #lastRowAt = 0;

  constructor({ turnId, messages, sent, destinations }: TurnPrompt, parts: MailboxTurnParts) {
    this.#parts = parts;
    this.#turnId = turnId;
    this.#destinations = destinations;
    this.#questionsFail.promise.catch(() => undefined);
    this.#routes = routesOf(messages);
    this.#batches = inboundBatches(messages, sent);
  }

  /** Rejects where a question can't be asked, or its answer not be told. */
  get questionsFail(): Promise<never> {
    return this.#questionsFail.promise;
  }

  async run(): Promise<void> {
    const { databases, clock, options } = this.#parts;
    this.#seq = await databases.prepare(this.#routes, this.#destinations);
    await this.#showTasks();
    let isRunning = false;
    const ids: string[] = [];
    for (const batch of this.#batches) {
      await databases.insert(batch, this.#seq);
      if (!isRunning) await databases.start();
      isRunning = true;
      this.#lastSignAt = clock.monotonic();
      await this.#untilAcknowledged(batch.filter(({ trigger }) => trigger === 1).map(({ id }) => id));
      ids.push(...batch.map(({ id }) => id));
      // They are not to crowd out the next ones.
      await databases.settle([], ids, new Date(clock.now()));
    }
    await this.#untilSilent();
    const at = this.#held.findLastIndex(({ to }) => to === undefined);
    const [reply] = at < 0 ? [] : this.#held.splice(at, 1);
    if (reply !== undefined && !this.#hasSent && this.#held.length === 0) refuseProviderError(reply);
    await this.#handOver(this.#held);
    await this.#do();
    if (reply !== undefined)
      this.#handled.push({ id: reply.id, status: "delivered", platformId: answerAlias(this.#turnId) });
    await databases.settle(this.#handled, ids, new Date(clock.now()));
    if (reply === undefined) return;
    for (const path of reply.files) options.onUpdate({ type: "file", path });
    options.onUpdate({ type: "reply", text: reply.text });
  }

  async #untilAcknowledged(ids: readonly string[]): Promise<void> {
    const { clock } = this.#parts;
    for (;;) {
      const { acks } = await this.#read(ids);
      const failed = ids.find((id) => acks[id] === "failed");
      if (failed !== undefined)
        throw new AgentRefusedError(`message ${failed}`, "it says that it failed", "");
      if (ids.every((id) => acks[id] !== undefined && acks[id] !== "processing")) return;
      const mayBeLast = this.#questions.length === 0 && clock.monotonic() - this.#lastRowAt < HELD_MS;
      await this.#handOver(mayBeLast ? this.#held.slice(0, -1) : this.#held);
      await this.#do();
      this.#askAll();
      await this.#pause();
    }
  }

  #askAll(): void {
    for (const question of this.#questions.splice(0))
      void this.#ask(question).catch((error: unknown) => this.#questionsFail.reject(error));
  }

  async #untilSilent(): Promise<void> {
    const { clock, options } = this.#parts;
    const since = clock.monotonic();
    for (;;) {
      await this.#read([]);
      await this.#do();
      this.#askAll();
      const now = clock.monotonic();
      // Until the agent could go on with the answer.
      this.#lastRowAt = Math.max(this.#lastRowAt, options.askedUntil());
      this.#lastSignAt = Math.max(this.#lastSignAt, options.askedUntil());
      const hasSpoken = this.#held.length > 0 || this.#hasSent;
      if (hasSpoken && now - Math.max(since, this.#lastRowAt) >= LAST_WORD_MS) return;
      if (!hasSpoken && now - Math.max(since, this.#lastSignAt) >= NO_WORD_MS) return;
      if (this.#held.length > HELD_MESSAGES) await this.#handOver(this.#held.slice(0, -1));
      await this.#pause();
    }
  }

  /** Reads what is new. */
  async #read(ids: readonly string[]): Promise<Outbound> {
    const { databases, clock, log, sign } = this.#parts;
    const read = await databases.read(this.#seq, ids);
    for (const row of read.rows) {
      this.#seq = row.seq;
      const content = outboundContent(row, this.#routes, Object.values(this.#destinations), clock.now());
      if (content.type === "message") {
        this.#held.push({ ...content, id: row.id, inReplyTo: row.inReplyTo });
        this.#lastRowAt = clock.monotonic();
      } else if (content.type === "request") {
        this.#requests.push({ id: row.id, request: content.request });
        this.#lastSignAt = clock.monotonic();
        continue;
      } else if (content.type === "question") {
        this.#questions.push(content);
      } else if (content.type === "refused" && ++this.#refused <= LOGGED_REFUSALS) {
        log.warn({ row: row.id, reason: content.reason }, "a message of the agent is refused");
      }
      this.#handled.push({ id: row.id, status: content.type === "refused" ? "failed" : "delivered" });
    }
    if (this.#handled.length > NOTED_ROWS) await this.#note();
    const { acks, tool } = read;
    const signs = JSON.stringify([this.#seq, acks, tool, await this.#heartbeat()]);
    if (signs !== this.#lastSign || runsAsDeclared(tool, clock.now())) {
      this.#lastSign = signs;
      this.#lastSignAt = clock.monotonic();
      sign();
    }
    return read;
  }

  /** Does what the agent asked for, in its order. What can't be done is noted as failed, and is nobody's failure. */
  async #do(): Promise<void> {
    const { log, sign } = this.#parts;
    for (const { id, request } of this.#requests.splice(0)) {
      try {
        if (++this.#requested > REQUESTS_MAX) throw new TooManyMessagesError(REQUESTS_MAX);
        await this.#request(request);
        this.#handled.push({ id, status: "delivered" });
      } catch (error) {
        if (!(error instanceof LongshoreError) || error.retryable) throw error;
        if (++this.#refused <= LOGGED_REFUSALS)
          log.warn({ row: id, err: error }, "what the agent asks for is not done");
        this.#handled.push({ id, status: "failed" });
      }
      sign();
      await this.#note();
    }
  }

  async #request(request: OutboundRequest): Promise<void> {
    const { tools } = this.#parts.options;
    switch (request.type) {
      case "edit":
        return await tools.editMessage(await this.#idOf(request.messageId), request.text);
      case "reaction":
        return await tools.react(request.emoji, await this.#idOf(request.messageId));
      case "schedule":
        await tools.schedule(request.prompt, request.timing, request.taskId);
        break;
      case "update":
        await tools.updateSchedule(request.taskId, request.change);
        break;
      case "cancel":
        await tools.cancelSchedule(request.taskId);
    }
    await this.#showTasks();
  }

  /** A message that was sent just now has its row's id in the agent's eyes. */
  async #idOf(messageId: string): Promise<string> {
    if (this.#held.some(({ id }) => id === messageId)) await this.#handOver(this.#held);
    return this.#sent.get(messageId) ?? messageId;
  }

  async #showTasks(): Promise<void> {
    const { databases, clock, options } = this.#parts;
    const tasks = (await options.tools.listSchedules()).map(
      ({ id, name, prompt, cron, at, nextAt, paused }): TaskRow => ({
        id: name ?? id,
        status: paused ? "paused" : "pending",
        processAfter: nextAt ?? at,
        recurrence: cron,
        prompt,
      }),
    );
    await databases.showTasks(tasks, this.#seq, new Date(clock.now()));
  }

  /** Asks, and puts the answer where the agent's call waits for it; without one that call has its own time. */
  async #ask({ id, text, options: choices }: AskedQuestion): Promise<void> {
    const { databases, clock, options } = this.#parts;
    const labels = choices.map(({ label }) => label);
    const answer = await options.ask({ text, options: labels, waitMs: QUESTION_WAIT_MS });
    if (answer === undefined) return;
    const chosen = answer.option === undefined ? undefined : choices[answer.option];
    const [route] = this.#routes as [ConversationPlace];
    const row = answerRow(id, chosen?.value ?? answer.text, route, new Date(clock.now()));
    await databases.insert([row], this.#seq);
  }

  /** Sends messages before the turn has ended. */
  async #handOver(messages: readonly Message[]): Promise<void> {
    const { options, sign } = this.#parts;
    if (messages.length === 0) return;
    // In the same generation as what they are published by.
    await this.#note();
    const sent = messages.length;
    for (const { id: row, text, files, to } of messages) {
      const { id } = await options.send({ text, files, to });
      // The time that this takes is not the agent's, which is paused meanwhile.
      sign();
      this.#sent.set(row, id);
      this.#handled.push({ id: row, status: "delivered", platformId: id });
      this.#hasSent = true;
    }
    this.#held = this.#held.slice(sent);
    await this.#note();
  }

  /** Notes what became of the agent's rows. */
  async #note(): Promise<void> {
    const { databases, clock } = this.#parts;
    await databases.settle(this.#handled.splice(0), [], new Date(clock.now()));
  }

  /** When `.heartbeat` was touched last, whatever the agent made of it. */
  async #heartbeat(): Promise<number> {
    using tree = SessionTree.open(this.#parts.slotDirectory);
    return await tree.lstat(HEARTBEAT).then(
      ({ mtimeMs }) => mtimeMs,
      () => 0,
    );
  }

  async #pause(): Promise<void> {
    await delay(POLL_MS, undefined, { signal: this.#parts.signal });
  }
}

function routesOf(messages: readonly AcceptedMessage[]): ConversationPlace[] {
  return messages.map(({ channel, conversation, thread }) => ({ channel, conversation, thread }));
}

/** Whether a tool is at work for no longer than the agent said that it may take. */
function runsAsDeclared(tool: Outbound["tool"], now: number): boolean {
  if (tool?.startedAt == null || tool.timeoutMs === null) return false;
  return now <= Date.parse(tool.startedAt) + tool.timeoutMs;
}

/**
 * The contract's runner answers with its provider's error, in reply to nothing, and acknowledges the messages as done: they would
 * never be tried again.
 *
 * @throws AgentRefusedError
 */
function refuseProviderError({ text, inReplyTo, files }: Message): void {
  if (inReplyTo !== null || files.length > 0 || !text.startsWith("Error: ")) return;
  throw new AgentRefusedError("the turn", text.slice("Error: ".length), "");
}

/** Rejects when the signal is aborted. */
async function rejectsWith(signal: AbortSignal): Promise<never> {
  signal.throwIfAborted();
  return await new Promise((_, reject) =>
    signal.addEventListener("abort", () => reject(signal.reason), { once: true }),
  );
}
