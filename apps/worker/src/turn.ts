import { buffer } from "node:stream/consumers";
import {
  type Commit,
  CommitUnsettledError,
  QuotaExceededError,
  type SessionRef,
  type SessionStore,
} from "@longshore/session-store";
import {
  type AcceptedMessage,
  type AskedQuestion,
  type Clock,
  type ConversationPlace,
  type Destination,
  deriveReplyId,
  endMessage,
  FencedError,
  hashId,
  type Logger,
  LongshoreError,
  type Metrics,
  type Reply,
  type SessionState,
  type SessionUsage,
  type TokenKind,
  TurnCancelledError,
} from "@longshore/shared";
import { type AgentUpdate, endsAtOnce } from "./agent.ts";
import { Checkpoints } from "./checkpoints.ts";
import { readNote, sentBefore } from "./commit-notes.ts";
import type { CommitPoint } from "./commit-point.ts";
import { HandedBackError, NoTurnError, OvertakenError, TooManyMessagesError } from "./errors.ts";
import type { Hints } from "./hints.ts";
import { writeAttachments } from "./inbox.ts";
import type { LeaseKeeper } from "./lease-keeper.ts";
import { MarkWatch } from "./mark-watch.ts";
import { type CollectedFiles, type CollectOptions, collectFiles } from "./outbox-files.ts";
import type { OutgoingMessage, SentContent, SentMessage } from "./outgoing.ts";
import type { PhaseTimes } from "./phase-times.ts";
import { type Answer, type Question, questionText } from "./question.ts";
import { Questions } from "./questions.ts";
import { replyTo } from "./replies.ts";
import { ReplyText } from "./reply-text.ts";
import type { RunningSession } from "./running-session.ts";
import type { SessionTools } from "./tools/session-tools.ts";
import { TurnEvents } from "./turn-events.ts";
import { TurnLog } from "./turn-log.ts";
import { endTurnMessages, type TurnMessages } from "./turn-messages.ts";

/** A turn's id: of the activation that makes the attempt, too. */
export function turnIdOf(nonce: string, messages: readonly AcceptedMessage[]): string {
  return hashId("turn", nonce, messages[0]?.id ?? "");
}

/** Messages that a turn may send before its end, edits and reactions included, and files that it may share. */
const SENT_IN_TURN_MAX = 200;
/** How long the store may take for the log of a turn, in ms: the retry waits for it. */
const LOG_LIMIT_MS = 2_000;

export interface TurnOptions {
  readonly state: SessionState;
  readonly store: SessionStore;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly log: Logger;
  readonly ref: SessionRef;
  readonly keeper: LeaseKeeper;
  /** Aborted where the turn has to be given up: the lease is lost, or the worker stops. */
  readonly signal: AbortSignal;
  readonly commits: CommitPoint;
  readonly running: RunningSession;
  readonly agentName: string;
  readonly worker: string;
  /** Other conversations that the agent may write to while it answers one. */
  readonly destinationsOf: (conversation: Destination) => Readonly<Record<string, ConversationPlace>>;
  /** The fleet's tools, called in this turn's name. */
  readonly tools: SessionTools;
  /** The agent's own, where it has any. */
  readonly agentSessionId: string | undefined;
  readonly phases: PhaseTimes;
  /** Given when the session may have something new: a message, or a mark on its turn. */
  readonly hints: Hints;
  /** Whether the worker has nothing else to do: its death is the messages' fault. */
  readonly isAlone: boolean;
  readonly onState: (state: "prompting" | "mirroring") => void;
}

/**
 * One turn, from its messages to the replies in the outbox.
 *
 * prompting    the agent is at work. Every `checkpoint` of its definition it is paused, and what it changed is
 *              committed as partial: that ends no message, and is undone by whoever tries the turn again.
 * mirroring    the sandbox is paused; the files of `outbox/` become artifacts; what changed is uploaded.
 * committing   and publishing: see `CommitPoint`. The sandbox stays paused: what is there is what was committed.
 *
 * prompting → mirroring, too, where somebody cancels the turn (`MarkWatch`): what it did so far is committed, and its
 * messages end as cancelled, without a reply. One that was cancelled before it began ends them without a prompt.
 *
 * A session directory above its quota fails the turn, at a checkpoint already. A store that is away makes a
 * checkpoint be left out.
 */
export class Turn {
  readonly #options: TurnOptions;
  readonly #messages: TurnMessages;
  readonly #id: string;
  readonly #log: Logger;
  readonly #wholeGeneration: number;
  /** Paths of files that the agent wants to go with its reply. */
  readonly #files = new Set<string>();
  #usage: SessionUsage | undefined;
  #hasStarted = false;
  /** Checkpoints, by time and of messages that are sent, one after another. */
  #committing: Promise<unknown> = Promise.resolve();
  #sends = 0;
  #sent = 0;
  #shared = 0;
  /** Ends the prompt with an error that is no agent's. */
  readonly #failed = new AbortController();
  /** Ends the wait for answers with the prompt. */
  readonly #prompted = new AbortController();
  readonly #questions: Questions;
  readonly #turnLog: TurnLog;
  #isPrompting = false;

  constructor(messages: TurnMessages, options: TurnOptions) {
    this.#options = options;
    this.#messages = messages;
    this.#id = turnIdOf(options.keeper.lease.nonce, messages.waking);
    this.#log = options.log.child({ turnId: this.#id });
    this.#wholeGeneration = options.running.copy.base?.generation ?? 0;
    this.#turnLog = new TurnLog(options.clock, {
      turnId: this.#id,
      messageIds: this.#messageIds,
      agent: options.agentName,
      worker: options.worker,
      generation: this.#wholeGeneration,
    });
    this.#questions = new Questions({
      ...options,
      sessionId: options.ref.sessionId,
      turnId: this.#id,
      waking: messages.waking,
      say: (asks) => {
        const question = { id: asks.id, options: [...asks.options] };
        const content = { kind: "answer", text: questionText(asks), question } as const;
        return this.#send({ content, files: [], asks });
      },
      signal: AbortSignal.any([options.signal, this.#failed.signal, this.#prompted.signal]),
    });
  }

  async run(): Promise<void> {
    const { state, ref, hints, phases, onState } = this.#options;
    onState("prompting");
    phases.measureQueue(this.#first.acceptedAt);
    // Before the turn is there to be marked: no hint about that is missed.
    const watch = new MarkWatch({
      ...{ state, sessionId: ref.sessionId, turnId: this.#id, hints, log: this.#log },
      messageIds: () => this.#messageIds,
    });
    try {
      const text = await this.#prompt(watch.signal);
      watch.stop();
      await this.#commitAnswer(text);
      await this.#keepLog("answered");
    } catch (error) {
      watch.stop();
      if (!(error instanceof TurnCancelledError)) {
        await this.#keepLog(isGivenUp(error) ? "given up" : "failed", error);
        throw error;
      }
      await this.#commitCancelled(error);
      await this.#keepLog("cancelled");
    }
  }

  /** Nothing fails with it, and nothing waits for it for long. */
  async #keepLog(outcome: "answered" | "cancelled" | "given up" | "failed", error?: unknown): Promise<void> {
    const { running, store, ref, keeper, phases } = this.#options;
    const { turnLog } = running.definition;
    // Whose lease is lost has nothing to say about the session any more.
    if (turnLog === "off" || (turnLog === "errors" && outcome !== "failed") || keeper.signal.aborted) return;
    const told = error instanceof LongshoreError ? { code: error.code, message: error.message } : undefined;
    const reason = error === undefined ? {} : { error: told ?? { code: "INTERNAL" } };
    this.#turnLog.add("end", {
      outcome,
      ...reason,
      stderr: running.agent.stderrTail(),
      phases: phases.times,
    });
    const { startedMs } = this.#turnLog;
    const signal = AbortSignal.any([keeper.signal, AbortSignal.timeout(LOG_LIMIT_MS)]);
    await store
      .putTurnLog(ref, { turnId: this.#id, startedMs }, this.#turnLog.read(), signal)
      .catch((cause: unknown) => this.#log.warn({ err: cause }, "the turn's log could not be kept"));
  }

  get #first(): AcceptedMessage {
    return this.#messages.waking[0] as AcceptedMessage;
  }

  get #messageIds(): string[] {
    return this.#messages.waking.map(({ id }) => id);
  }

  /** The messages that it answers, and those that answered its questions. */
  get #waking(): readonly AcceptedMessage[] {
    return [...this.#messages.waking, ...this.#questions.answers];
  }

  async #prompt(marked: AbortSignal): Promise<ReplyText> {
    const { state, store, ref, keeper, running, phases, clock, isAlone } = this.#options;
    await state.startTurn(ref.sessionId, keeper.lease, this.#messageIds, this.#id, isAlone);
    this.#hasStarted = true;
    const signal = AbortSignal.any([this.#options.signal, marked, this.#failed.signal]);
    // An agent that waits for a permission could not end its turn.
    signal.addEventListener("abort", () => this.#prompted.abort(new NoTurnError()), { once: true });
    for (const message of this.#messages.inOrder)
      await writeAttachments(store, ref, message, running.slotDirectory, running.user, signal);
    const events = new TurnEvents({ state, sessionId: ref.sessionId, turnId: this.#id, log: this.#log });
    const text = new ReplyText(running.definition.limits.output);
    const promptedAt = clock.monotonic();
    const checkpoints = new Checkpoints({
      everyMs: running.definition.checkpoint,
      take: () => this.#inOrder(() => this.#checkpoint()),
      onFailure: (error) => this.#failed.abort(error),
    });
    const disk = running.watchDisk(clock, (error) => this.#failed.abort(error));
    this.#isPrompting = true;
    this.#log.info({ messageIds: this.#messageIds, phases: phases.times }, "prompt sent");
    try {
      const sent = sentBefore(readNote(running.copy.base)).map(({ text }) => text);
      await running.agent.prompt(
        {
          turnId: this.#id,
          messages: this.#messages.inOrder,
          sent,
          destinations: this.#options.destinationsOf(this.conversation),
          read: async ({ sha256 }) => await buffer((await store.openInbound(ref, sha256, signal)).stream()),
        },
        {
          onUpdate: (update) => this.#follow(update, text, events),
          send: (message) => this.send(message),
          ask: (question) => this.ask(question),
          tools: this.#options.tools,
          askedUntil: () => this.#questions.askedUntil,
          signal,
        },
      );
    } finally {
      this.#isPrompting = false;
      this.#prompted.abort(new NoTurnError());
      await Promise.all([checkpoints.stop(), disk?.stop()]);
      await this.#committing;
      await events.flush(keeper.signal);
    }
    this.#failed.signal.throwIfAborted();
    phases.measure("prompt", promptedAt);
    return text;
  }

  #follow(update: AgentUpdate, text: ReplyText, events: TurnEvents): void {
    this.#turnLog.update(update);
    switch (update.type) {
      case "text":
        text.append(update.text);
        events.text(update.text);
        break;
      case "reply":
        text.reply(update.text);
        events.text(update.text);
        break;
      case "tool":
        text.toolCalled();
        events.tool(update.id, update.title, update.status);
        break;
      case "plan":
        events.plan(update.entries);
        break;
      case "tokens":
        this.#countTokens(update.tokens);
        this.#usage = { ...this.#usage, tokens: update.tokens };
        events.usage({ tokens: update.tokens });
        break;
      case "context":
        this.#usage = { tokens: {}, ...this.#usage, context: update.context };
        events.usage({ context: update.context });
        break;
      case "cut":
        text.cut(update.reason);
        break;
      case "file":
        // More are refused by name when they are collected; without a bound their names would be kept.
        if (this.#files.size <= this.#options.running.definition.limits.attachments)
          this.#files.add(update.path);
    }
  }

  #countTokens(tokens: SessionUsage["tokens"]): void {
    const { metrics, ref, agentName: agent } = this.#options;
    for (const [kind, count] of Object.entries(tokens) as [TokenKind, number][])
      metrics.tokens.inc({ tenant: ref.tenant, agent, kind }, count);
  }

  /**
   * Sends a message before the turn has ended, with the files that the agent names. It is published like every reply, by a
   * commit (I6): a checkpoint, so that what the turn did is undone where it fails, and the message is not.
   *
   * @throws NoTurnError when the prompt was answered meanwhile; TooManyMessagesError; errors of the store
   */
  async send(message: OutgoingMessage): Promise<SentMessage> {
    if (++this.#sent > SENT_IN_TURN_MAX) throw new TooManyMessagesError(SENT_IN_TURN_MAX);
    const { text, files = [], to, change } = message;
    return await this.#send({ content: { kind: "answer", text, ...change }, files, to });
  }

  /**
   * Asks whoever sent the turn's messages, and waits for the answer.
   *
   * @throws NoTurnError when the prompt was answered meanwhile; as `Questions.ask`
   */
  async ask(question: Question): Promise<Answer | undefined> {
    if (!this.#isPrompting) throw new NoTurnError();
    return await this.#questions.ask(question);
  }

  async #send(message: MessageInTurn): Promise<SentMessage> {
    return await this.#inOrder(async () => {
      if (!this.#isPrompting) throw new NoTurnError();
      const { commit, files } = await this.#commitSoFar(message);
      return { ...files, id: deriveReplyId(this.#options.ref.sessionId, (commit as Commit).id, 0) };
    }).catch((error: unknown) => {
      if (endsTurn(error)) this.#failed.abort(error);
      throw error;
    });
  }

  /**
   * Makes an artifact of a file, of no reply.
   *
   * @param path as the agent names it
   * @throws NoTurnError when the prompt was answered meanwhile; TooManyMessagesError; errors of the store
   */
  async share(path: string): Promise<CollectedFiles> {
    if (++this.#shared > SENT_IN_TURN_MAX) throw new TooManyMessagesError(SENT_IN_TURN_MAX);
    const { running, keeper } = this.#options;
    return await this.#inOrder(async () => {
      if (!this.#isPrompting) throw new NoTurnError();
      try {
        await running.pause();
        return await this.#collect([path], { stay: true });
      } finally {
        if (!keeper.signal.aborted) await running.resume();
      }
    });
  }

  /** The message that it answers last. */
  get lastMessageId(): string {
    return this.#messageIds.at(-1) as string;
  }

  /** Whom it answers. */
  get conversation(): Destination {
    const { tenant, agent, channel, conversation, thread } = this.#first;
    return { tenant, agent, channel, conversation, ...(thread === undefined ? {} : { thread }) };
  }

  async #inOrder<T>(operation: () => Promise<T>): Promise<T> {
    const result = this.#committing.then(operation);
    this.#committing = result.catch(() => undefined);
    return await result;
  }

  async #checkpoint(): Promise<void> {
    try {
      await this.#commitSoFar(undefined);
    } catch (error) {
      if (this.#options.signal.aborted || endsTurn(error)) throw error;
      this.#log.warn({ err: error }, "a checkpoint is left out");
    }
  }

  /** Commits what the turn did so far as partial, with a message where there is one; else only where there is a change. */
  async #commitSoFar(
    message: MessageInTurn | undefined,
  ): Promise<{ readonly commit?: Commit; readonly files: CollectedFiles }> {
    if (message !== undefined)
      this.#turnLog.add("sent", { ...message.content, files: message.files, to: message.to });
    const { commits, running, keeper, signal, agentName, agentSessionId, onState } = this.#options;
    let resumed: Promise<void> | undefined;
    try {
      await running.pause();
      onState("mirroring");
      const files = message === undefined ? NO_FILES : await this.#collect(message.files);
      const mirror = await running.mirror(signal, () => {
        resumed = running.resume();
        // Awaited at the end; until then nobody looks.
        resumed.catch(() => undefined);
      });
      if (mirror.isEmpty && message === undefined) return { files };
      const commit = await commits.checkpoint(running.copy, mirror, {
        agent: agentName,
        turnId: this.#id,
        agentSessionId,
        wholeGeneration: this.#wholeGeneration,
        ...(message === undefined
          ? {}
          : {
              sends: message.content.text,
              asks: message.asks,
              replies: [replyTo(this.#messages.waking, { ...message.content, ...files }, message.to)],
            }),
      });
      const { changed, removed } = mirror;
      const { generation } = commit;
      this.#log.info({ generation, changed, removed, sends: message !== undefined }, "checkpoint");
      return { commit, files };
    } finally {
      // Where the session is another's now, it must not act any more.
      if (!keeper.signal.aborted) await (resumed ?? running.resume());
      onState("prompting");
    }
  }

  async #collect(
    named: readonly string[],
    options: Pick<CollectOptions, "stay"> = {},
  ): Promise<CollectedFiles> {
    const { store, ref, running, signal } = this.#options;
    if (named.length === 0) return NO_FILES;
    return await collectFiles(store, ref, `${this.#id}-${++this.#sends}`, running.slotDirectory, {
      ...options,
      named,
      outbox: false,
      limits: running.definition.limits,
      owner: running.user,
      signal,
    });
  }

  async #commitAnswer(text: ReplyText): Promise<void> {
    const { store, ref, signal, running } = this.#options;
    const mirroredAt = this.#beginMirror();
    await running.pause();
    const files = await collectFiles(store, ref, this.#id, running.slotDirectory, {
      named: [...this.#files],
      // There every file is a message's, which names it.
      outbox: running.definition.contract !== "mailbox-db",
      limits: running.definition.limits,
      owner: running.user,
      signal,
    });
    const reply = text.read(running.definition.reply);
    const silent = reply.trim() === "" && files.artifacts.length === 0 && files.refused.length === 0;
    const replies = silent ? [] : [replyTo(this.#waking, { kind: "answer", text: reply, ...files })];
    const commit = await this.#commitChange(mirroredAt, "answered", replies);
    this.#report(commit, "answered", files.refused);
  }

  /** Ends the messages as cancelled, with what the turn did so far; its files in `outbox/` wait for the next reply. */
  async #commitCancelled({ messageIds }: TurnCancelledError): Promise<void> {
    const { commits, running, agentName } = this.#options;
    let commit: Commit;
    if (this.#hasStarted) {
      const mirroredAt = this.#beginMirror();
      await running.pause();
      commit = await this.#commitChange(mirroredAt, "cancelled", []);
    } else {
      await running.pause();
      const ends = this.#messages.waking
        .filter(({ id }) => messageIds.includes(id))
        .map((message) => endMessage(message, "cancelled"));
      commit = await commits.commitUnchanged(running.copy, "turn", { agent: agentName, ends });
    }
    this.#report(commit, "cancelled", []);
  }

  #beginMirror(): number {
    this.#options.onState("mirroring");
    return this.#options.clock.monotonic();
  }

  async #commitChange(
    mirroredAt: number,
    outcome: "answered" | "cancelled",
    replies: readonly Reply[],
  ): Promise<Commit> {
    const { signal, commits, running, agentName, agentSessionId, phases, clock } = this.#options;
    const mirror = await running.mirror(signal);
    phases.measure("mirror", mirroredAt);
    const committedAt = clock.monotonic();
    const commit = await commits.commit(running, mirror, {
      agent: agentName,
      turnId: this.#id,
      agentSessionId,
      ends: endTurnMessages({ ...this.#messages, waking: this.#waking }, outcome),
      replies,
      usage: this.#usage,
      contextDropped: this.#messages.contextDropped,
    });
    phases.measure("commit", committedAt);
    return commit;
  }

  #report(
    { generation }: Commit,
    outcome: "answered" | "cancelled",
    refusedFiles: CollectedFiles["refused"],
  ): void {
    const { metrics, agentName, phases } = this.#options;
    metrics.turns.inc({ agent: agentName, outcome });
    for (const [phase, ms] of Object.entries(phases.times)) {
      metrics.turnPhaseSeconds.observe({ agent: agentName, phase }, ms / 1_000);
    }
    this.#log.info(
      { messageIds: this.#messageIds, generation, phases: phases.times, refusedFiles },
      `turn ${outcome}`,
    );
  }
}

/** What a turn says before it has ended. */
interface MessageInTurn {
  readonly content: SentContent;
  readonly files: readonly string[];
  readonly to?: ConversationPlace | undefined;
  readonly asks?: AskedQuestion;
}

const NO_FILES: CollectedFiles = { artifacts: [], refused: [] };

/** Whether a turn ended for another reason than that something failed. */
function isGivenUp(error: unknown): boolean {
  return endsAtOnce(error) || error instanceof HandedBackError;
}

/** Whether a checkpoint's failure is the turn's: it can't end well, or nothing may be committed after it. */
function endsTurn(error: unknown): boolean {
  return (
    error instanceof QuotaExceededError ||
    error instanceof CommitUnsettledError ||
    error instanceof OvertakenError ||
    error instanceof FencedError
  );
}
