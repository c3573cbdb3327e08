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
  type SessionState,
} from "@longshore/shared";
import { Checkpoints } from "./checkpoints.ts";
import type { CommitPoint } from "./commit-point.ts";
import { OvertakenError } from "./errors.ts";
import { writeAttachments } from "./inbox.ts";
import type { LeaseKeeper } from "./lease-keeper.ts";
import { type CollectedFiles, collectOutbox } from "./outbox-files.ts";
import type { PhaseTimes } from "./phase-times.ts";
import { buildPrompt } from "./prompt.ts";
import { replyTo } from "./replies.ts";
import { ReplyText } from "./reply-text.ts";
import type { RunningSession } from "./running-session.ts";
import { TurnEvents } from "./turn-events.ts";

/** A turn's id: of the activation that makes the attempt, too. */
export function turnIdOf(nonce: string, message: AcceptedMessage): string {
  return hashId("turn", nonce, message.id);
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
  readonly onState: (state: "prompting" | "mirroring") => void;
}

/**
 * One turn, from a message to its replies in the outbox.
 *
 * prompting    the agent is at work. Every `checkpoint` of its definition it is paused, and what it changed is
 *              committed as partial: that ends no message, and is undone by whoever tries the turn again.
 * mirroring    the sandbox is paused; the files of `outbox/` become artifacts; what changed is uploaded.
 * committing   and publishing: see `CommitPoint`. The sandbox stays paused: what is there is what was committed.
 *
 * A session directory above its quota fails the turn, at a checkpoint already. A store that is away makes a
 * checkpoint be left out.
 */
export class Turn {
  readonly #options: TurnOptions;
  readonly #message: AcceptedMessage;
  readonly #id: string;
  readonly #log: Logger;
  readonly #wholeGeneration: number;

  constructor(message: AcceptedMessage, options: TurnOptions) {
    this.#options = options;
    this.#message = message;
    this.#id = turnIdOf(options.keeper.lease.nonce, message);
    this.#log = options.log.child({ turnId: this.#id });
    this.#wholeGeneration = options.running.copy.base?.generation ?? 0;
  }

  async run(): Promise<void> {
    const { state, store, ref, keeper, signal, running, phases, onState } = this.#options;
    const message = this.#message;
    onState("prompting");
    phases.measureQueue(message.acceptedAt);
    await state.startTurn(ref.sessionId, keeper.lease, [message.id], this.#id);
    await writeAttachments(store, ref, message, running.slotDirectory, running.user, signal);
    const text = await this.#prompt();
    await this.#commit(text);
  }

  async #prompt(): Promise<ReplyText> {
    const { state, ref, keeper, signal, running, phases, clock } = this.#options;
    const events = new TurnEvents({ state, sessionId: ref.sessionId, turnId: this.#id, log: this.#log });
    const text = new ReplyText(running.definition.limits.output);
    const promptedAt = clock.monotonic();
    const failed = new AbortController();
    const checkpoints = new Checkpoints({
      everyMs: running.definition.checkpoint,
      take: () => this.#checkpoint(),
      onFailure: (error) => failed.abort(error),
    });
    this.#log.info({ messageIds: [this.#message.id], phases: phases.times }, "prompt sent");
    try {
      await running.agent.prompt(buildPrompt([this.#message]), {
        onUpdate: (update) => follow(update, text, events),
        signal: AbortSignal.any([signal, failed.signal]),
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

  async #commit(text: ReplyText): Promise<void> {
    const { store, ref, signal, commits, running, agentName, agentSessionId, phases, clock } = this.#options;
    const message = this.#message;
    this.#options.onState("mirroring");
    const mirroredAt = clock.monotonic();
    await running.pause();
    const files = await collectOutbox(store, ref, this.#id, running.slotDirectory, {
      limits: running.definition.limits,
      owner: running.user,
      signal,
    });
    const mirror = await running.mirror(signal);
    phases.measure("mirror", mirroredAt);

    const committedAt = clock.monotonic();
    const reply = text.read(running.definition.reply);
    const silent = reply.trim() === "" && files.artifacts.length === 0 && files.refused.length === 0;
    const commit = await commits.commit(running.copy, mirror, "turn", {
      agent: agentName,
      turnId: this.#id,
      agentSessionId,
      ends: [endMessage(message, "answered")],
      replies: silent ? [] : [replyTo(message, { kind: "answer", text: reply, ...files })],
    });
    phases.measure("commit", committedAt);
    this.#report(commit, files.refused);
  }

  #report({ generation }: Commit, refusedFiles: CollectedFiles["refused"]): void {
    const { metrics, agentName, phases } = this.#options;
    metrics.turns.inc({ agent: agentName, outcome: "answered" });
    for (const [phase, ms] of Object.entries(phases.times)) {
      metrics.turnPhaseSeconds.observe({ agent: agentName, phase }, ms / 1_000);
    }
    this.#log.info(
      { messageIds: [this.#message.id], generation, phases: phases.times, refusedFiles },
      "turn answered",
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
