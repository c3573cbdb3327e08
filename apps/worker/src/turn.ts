import type { SessionUpdate } from "@agentclientprotocol/sdk";
import {
  type Commit,
  CommitUnsettledError,
  QuotaExceededError,
  type SessionRef,
  type SessionStore,
} from "@longshore/session-store";
import {
  type AcceptedMessage,
  type Clock,
  endMessage,
  FencedError,
  hashId,
  type Logger,
  type Metrics,
  type Reply,
  type SessionState,
  TurnCancelledError,
} from "@longshore/shared";
import { Checkpoints } from "./checkpoints.ts";
import type { CommitPoint } from "./commit-point.ts";
import { OvertakenError } from "./errors.ts";
import type { Hints } from "./hints.ts";
import { writeAttachments } from "./inbox.ts";
import type { LeaseKeeper } from "./lease-keeper.ts";
import { MarkWatch } from "./mark-watch.ts";
import { type CollectedFiles, collectOutbox } from "./outbox-files.ts";
import type { PhaseTimes } from "./phase-times.ts";
import { buildPrompt } from "./prompt.ts";
import { replyTo } from "./replies.ts";
import { ReplyText } from "./reply-text.ts";
import type { RunningSession } from "./running-session.ts";
import { TurnEvents } from "./turn-events.ts";
import { endTurnMessages, type TurnMessages } from "./turn-messages.ts";

/** A turn's id: of the activation that makes the attempt, too. */
export function turnIdOf(nonce: string, messages: readonly AcceptedMessage[]): string {
  return hashId("turn", nonce, messages[0]?.id ?? "");
}

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
  readonly agentSessionId: string;
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
  #hasStarted = false;

  constructor(messages: TurnMessages, options: TurnOptions) {
    this.#options = options;
    this.#messages = messages;
    this.#id = turnIdOf(options.keeper.lease.nonce, messages.waking);
    this.#log = options.log.child({ turnId: this.#id });
    this.#wholeGeneration = options.running.copy.base?.generation ?? 0;
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
    } catch (error) {
      watch.stop();
      if (!(error instanceof TurnCancelledError)) throw error;
      await this.#commitCancelled(error);
    }
  }

  get #first(): AcceptedMessage {
    return this.#messages.waking[0] as AcceptedMessage;
  }

  get #messageIds(): string[] {
    return this.#messages.waking.map(({ id }) => id);
  }

  async #prompt(marked: AbortSignal): Promise<ReplyText> {
    const { state, store, ref, keeper, running, phases, clock, isAlone } = this.#options;
    await state.startTurn(ref.sessionId, keeper.lease, this.#messageIds, this.#id, isAlone);
    this.#hasStarted = true;
    const failed = new AbortController();
    const signal = AbortSignal.any([this.#options.signal, marked, failed.signal]);
    for (const message of this.#messages.inOrder)
      await writeAttachments(store, ref, message, running.slotDirectory, running.user, signal);
    const events = new TurnEvents({ state, sessionId: ref.sessionId, turnId: this.#id, log: this.#log });
    const text = new ReplyText(running.definition.limits.output);
    const promptedAt = clock.monotonic();
    const checkpoints = new Checkpoints({
      everyMs: running.definition.checkpoint,
      take: () => this.#checkpoint(),
      onFailure: (error) => failed.abort(error),
    });
    this.#log.info({ messageIds: this.#messageIds, phases: phases.times }, "prompt sent");
    try {
      await running.agent.prompt(buildPrompt(this.#messages.inOrder), {
        onUpdate: (update) => follow(update, text, events),
        signal,
      });
    } finally {
      await checkpoints.stop();
      await events.flush(keeper.signal);
    }
    failed.signal.throwIfAborted();
    phases.measure("prompt", promptedAt);
    return text;
  }

  async #checkpoint(): Promise<void> {
    const { commits, running, keeper, signal, agentName, agentSessionId, onState } = this.#options;
    let resumed: Promise<void> | undefined;
    try {
      await running.pause();
      onState("mirroring");
      const mirror = await running.mirror(signal, () => {
        resumed = running.resume();
      });
      if (mirror.isEmpty) return;
      const { generation } = await commits.checkpoint(running.copy, mirror, {
        agent: agentName,
        turnId: this.#id,
        agentSessionId,
        wholeGeneration: this.#wholeGeneration,
      });
      this.#log.info({ generation, changed: mirror.changed, removed: mirror.removed }, "checkpoint");
    } catch (error) {
      if (signal.aborted || endsTurn(error)) throw error;
      this.#log.warn({ err: error }, "a checkpoint is left out");
    } finally {
      // Where the session is another's now, it must not act any more.
      if (!keeper.signal.aborted) await (resumed ?? running.resume());
      onState("prompting");
    }
  }

  async #commitAnswer(text: ReplyText): Promise<void> {
    const { store, ref, signal, running } = this.#options;
    const mirroredAt = this.#beginMirror();
    await running.pause();
    const files = await collectOutbox(store, ref, this.#id, running.slotDirectory, {
      limits: running.definition.limits,
      owner: running.user,
      signal,
    });
    const reply = text.read(running.definition.reply);
    const silent = reply.trim() === "" && files.artifacts.length === 0 && files.refused.length === 0;
    const replies = silent ? [] : [replyTo(this.#messages.waking, { kind: "answer", text: reply, ...files })];
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
    const commit = await commits.commit(running.copy, mirror, "turn", {
      agent: agentName,
      turnId: this.#id,
      agentSessionId,
      ends: endTurnMessages(this.#messages, outcome),
      replies,
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

/** Whether a checkpoint's failure is the turn's: it can't end well, or nothing may be committed after it. */
function endsTurn(error: unknown): boolean {
  return (
    error instanceof QuotaExceededError ||
    error instanceof CommitUnsettledError ||
    error instanceof OvertakenError ||
    error instanceof FencedError
  );
}

function follow(update: SessionUpdate, text: ReplyText, events: TurnEvents): void {
  if (update.sessionUpdate === "agent_message_chunk" && update.content.type === "text") {
    text.append(update.content.text);
    events.text(update.content.text);
  } else if (update.sessionUpdate === "tool_call" || update.sessionUpdate === "tool_call_update") {
    text.toolCalled();
    events.tool(update.toolCallId, update.title ?? undefined, update.status ?? undefined);
  }
}
