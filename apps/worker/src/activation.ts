import { randomBytes } from "node:crypto";
import type { SessionUpdate } from "@agentclientprotocol/sdk";
import type { Sandbox, SandboxRuntime, SandboxUser, SandboxUsers, Slots } from "@longshore/sandbox";
import type { Commit, Mirror, SessionRef, SessionStore, WorkingCopy } from "@longshore/session-store";
import {
  type AcceptedMessage,
  type AgentDefinition,
  type Clock,
  endMessage,
  FencedError,
  hashId,
  type Logger,
  type Metrics,
  type Reply,
  type ReplyWake,
  type SessionState,
  type TakenLease,
  type TurnPhase,
  type WakeQueue,
} from "@longshore/shared";
import { AcpAgent } from "./acp-agent.ts";
import { readNote } from "./commit-notes.ts";
import { CommitPoint } from "./commit-point.ts";
import { AgentGoneError, HandedBackError, OvertakenError } from "./errors.ts";
import { classifyFailure, type Failure, retryDelayMs } from "./failure.ts";
import { writeAttachments } from "./inbox.ts";
import { LeaseKeeper } from "./lease-keeper.ts";
import { collectOutbox } from "./outbox-files.ts";
import { buildPrompt } from "./prompt.ts";
import { ReplyText } from "./reply-text.ts";
import { TurnEvents } from "./turn-events.ts";

/** How often a lingering activation reads the mailbox without being told, in ms: hints may be lost. */
const MAILBOX_POLL_MS = 5_000;
/** How often a takeover record may lose against late commits of predecessors before the session is left alone. */
const TAKEOVER_ATTEMPTS = 3;
/** How long to leave a session alone after a failure that is nobody's in particular, in ms. */
const TROUBLE_DELAY_MS = 2_000;
/** For a session whose agent is not configured, so that its own policy is unknown; times in ms. */
const DEFAULT_RETRY = { attempts: 5, backoff: 5_000, longest: 300_000 };

/** What an activation needs of its worker. */
export interface ActivationParts {
  readonly state: SessionState;
  readonly store: SessionStore;
  readonly slots: Slots;
  readonly users: SandboxUsers;
  readonly runtimeOf: (agent: AgentDefinition) => SandboxRuntime;
  readonly replyWakes: WakeQueue<ReplyWake>;
  /** The definition in force; undefined where the agent is not configured (any more). */
  readonly agentOf: (name: string, tenant: string) => AgentDefinition | undefined;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: () => number;
  readonly host: string;
  readonly worker: string;
  readonly leaseMs: number;
  /** False where others wait for a place. */
  readonly mayLinger: () => boolean;
}

export type ActivationEnd =
  /** Released, nothing waits: the job is done. */
  | { readonly outcome: "released" }
  /** The session is to be looked at again after `inMs`: leased elsewhere, a retry that waits, handed back. */
  | { readonly outcome: "later"; readonly inMs: number };

export type ActivationState =
  | "leasing"
  | "hydrating"
  | "opening"
  | "prompting"
  | "mirroring"
  | "committing"
  | "publishing"
  | "lingering"
  | "ending";

/** The running parts, from hydration to the end. */
interface Running {
  readonly agent: AcpAgent;
  readonly agentName: string;
  readonly commits: CommitPoint;
  readonly sandbox: Sandbox;
  readonly copy: WorkingCopy;
  readonly slotDirectory: string;
  readonly user: SandboxUser;
  readonly definition: AgentDefinition;
}

/**
 * A worker holding one session: hydrated directory plus running sandbox, serving turns one after another.
 *
 * leasing     takes the lease (new epoch). Not to be had → over, to be looked at later.
 * hydrating   reads the newest commit, publishes what an earlier activation committed and did not publish
 *             (adoption), and restores the directory while the sandbox starts. A lease that its last holder
 *             did not release begins with a takeover record: from then on that one's late commit loses (I5).
 * opening     `initialize`, and the agent's own session of last time, or a new one.
 * prompting   the head of the mailbox is the prompt (I1).
 * mirroring   the sandbox is paused; the files of `outbox/` become artifacts; what changed is uploaded.
 * committing  one put-if-absent: the change, the messages it ends, the replies (I3, I6).
 * publishing  one fenced script: replies to the outbox, messages out of the mailbox. → prompting while
 *             messages wait, else lingering.
 * lingering   waits for a hint, the idle time, eviction, a stop. Ends with a last mirror. Released only
 *             where nothing waits: a message that came meanwhile → prompting.
 * ending      sandbox destroyed, slot removed; the lease released, or left to expire.
 *
 * A turn that fails ends the activation: its directory is no generation, so the retry starts from the one
 * before. It counts for the message of the turn alone: what fails between its commit and the next prompt
 * ends the activation too, and no message is to blame. A commit of which the store did not say whether it
 * stands leaves the lease unclean, so that the next activation begins with a takeover record. A lost lease
 * (`LeaseKeeper`) ends it from every state: the sandbox is paused at once, nothing is committed, published
 * or released. The process may be killed between any two lines: before the commit the old generation and the
 * messages are there; after it the next activation publishes.
 */
export class Activation {
  readonly sessionId: string;
  readonly #parts: ActivationParts;
  readonly #nonce = randomBytes(16).toString("hex");
  readonly #log: Logger;
  /** Aborts what runs when the worker has to be gone. */
  readonly #stop = new AbortController();
  #keeper: LeaseKeeper | undefined;
  #sandbox: Sandbox | undefined;
  #user: SandboxUser | undefined;
  #state: ActivationState = "leasing";
  #lingeringSince: number | undefined;
  #lingerOver = false;
  #wakeUp: (() => void) | undefined;
  #phases: Partial<Record<TurnPhase, number>> = {};
  /**
   * The message that a failure is about: from when it is found at the head of the mailbox until its commit
   * stands. What fails after that (publication, lingering) is no fault of it, nor of the one behind it.
   */
  #serving: AcceptedMessage | undefined;
  #stuck = false;
  #commits: CommitPoint | undefined;
  /** The newest generation that Redis knew to be published when the lease was taken. */
  #publishedBefore = 0;

  constructor(sessionId: string, parts: ActivationParts) {
    this.sessionId = sessionId;
    this.#parts = parts;
    this.#log = parts.log.child({ sessionId });
  }

  get state(): ActivationState {
    return this.#state;
  }

  /** True where its sandbox would not die: its place must not be used again before `clean` succeeds. */
  get stuck(): boolean {
    return this.#stuck;
  }

  get lingeringSince(): number | undefined {
    return this.#lingeringSince;
  }

  /** The session has a new message, perhaps. */
  hint(): void {
    this.#wakeUp?.();
  }

  /** Lingers no more: the place is wanted, or the worker stops. What runs goes on. */
  evict(): void {
    this.#lingerOver = true;
    this.#wakeUp?.();
  }

  /** Ends what runs and hands the session back, uncounted. */
  handBack(): void {
    this.evict();
    this.#stop.abort(new HandedBackError());
  }

  /** The job's lock was lost, so another worker may have it: stops as if the lease were. */
  fence(reason: string): void {
    this.#keeper?.lose(reason);
  }

  /** Whether this is the activation that a sandbox or slot with that nonce belongs to. */
  owns(nonce: string): boolean {
    return nonce === this.#nonce;
  }

  async run(): Promise<ActivationEnd> {
    const { activations } = this.#parts.metrics;
    activations.inc({ state: this.#state });
    try {
      return await this.#lease();
    } finally {
      activations.dec({ state: this.#state });
    }
  }

  async #lease(): Promise<ActivationEnd> {
    const { state, worker, leaseMs, clock } = this.#parts;
    const takenAt = clock.monotonic();
    const result = await state.takeLease(this.sessionId, this.#nonce, worker, leaseMs);
    if (!result.taken) return { outcome: "later", inMs: result.forMs };
    this.#measure("lease", takenAt);

    const keeper = new LeaseKeeper({
      state,
      sessionId: this.sessionId,
      lease: result.lease,
      ttlMs: leaseMs,
      takenAt,
      clock,
    });
    this.#keeper = keeper;
    // Before anything else notices: a sandbox whose session is another's now must not act any more.
    keeper.signal.addEventListener("abort", () => void this.#sandbox?.pause().catch(() => undefined), {
      once: true,
    });
    this.#publishedBefore = result.lease.publishedGeneration;
    try {
      return await this.#hold(keeper, result.lease.before);
    } catch (error) {
      if (error instanceof FencedError || keeper.signal.aborted) {
        this.#parts.metrics.fenced.inc();
        this.#log.warn({ err: error }, "lost the session; what was not committed is dropped");
        return { outcome: "later", inMs: leaseMs };
      }
      // Redis or the store failed where nothing could be recorded. The lease expires, or goes now.
      this.#log.error({ err: error }, "the activation failed");
      await this.#release(keeper, { handBack: true }).catch((cause: unknown) =>
        this.#log.warn({ err: cause }, "the lease is left to expire"),
      );
      return { outcome: "later", inMs: TROUBLE_DELAY_MS };
    } finally {
      keeper.stop();
    }
  }

  /**
   * Serves under the lease until it is released: again where a message came just then, and where a
   * predecessor's late commit came in between.
   */
  async #hold(keeper: LeaseKeeper, before: TakenLease["before"]): Promise<ActivationEnd> {
    let overtaken = 0;
    for (;;) {
      try {
        const end = await this.#serve(keeper, overtaken > 0 ? "unclean" : before);
        if (end !== undefined) return end;
      } catch (error) {
        if (!(error instanceof OvertakenError) || ++overtaken === TAKEOVER_ATTEMPTS || this.#stuck)
          throw error;
        this.#log.warn(
          { generation: error.generation },
          "adopting what an earlier activation committed late",
        );
      }
    }
  }

  /** Undefined where it has to begin again under the same lease. */
  async #serve(keeper: LeaseKeeper, before: TakenLease["before"]): Promise<ActivationEnd | undefined> {
    const { state, store, clock } = this.#parts;
    this.#enter("hydrating");
    const startedAt = clock.monotonic();
    const [head] = await state.readMailbox(this.sessionId, 1);
    const { tenant, agent: agentName } = head ?? (await state.inspect(this.sessionId));
    // Nothing waits and nothing is known: a wake for a session that Redis forgot.
    if (tenant === undefined || agentName === undefined) return this.#releaseIdle(keeper);

    this.#serving = head;
    const ref = { tenant, sessionId: this.sessionId };
    const definition = this.#parts.agentOf(agentName, tenant);
    const commits = new CommitPoint(
      { ...this.#parts, log: this.#log },
      {
        keeper,
        ref,
        publishedGeneration: this.#publishedGeneration,
        onState: (entered) => {
          if (entered === "publishing") this.#serving = undefined;
          this.#enter(entered);
        },
      },
    );
    this.#commits = commits;
    try {
      const newest = await store.readNewest(ref, keeper.signal);
      // Redis came back with older data: what it says of the last holder may be older, too.
      const older = newest !== undefined && newest.epoch >= keeper.lease.epoch;
      await commits.adopt(newest, { forgotten: before === "unknown" });
      const message = await commits.nextMessage(newest);
      if (message === undefined) return await this.#releaseIdle(keeper);
      if (definition === undefined) throw new AgentGoneError(agentName);
      this.#phases.queue = Math.max(0, clock.now() - Date.parse(message.acceptedAt));
      const takeover = older || before === "unclean" || (before === "unknown" && newest !== undefined);
      const base = takeover
        ? await commits.commitUnchanged(newest, "takeover", { agent: agentName })
        : newest;
      this.#serving = message;
      return await this.#withSandbox(keeper, commits, ref, base, definition, agentName, startedAt);
    } catch (error) {
      if (error instanceof OvertakenError || error instanceof FencedError || keeper.signal.aborted)
        throw error;
      return await this.#failed(keeper, commits, ref, agentName, definition, error);
    }
  }

  /** Makes the slot, restores the directory while the sandbox starts, serves turns, and cleans up. */
  async #withSandbox(
    keeper: LeaseKeeper,
    commits: CommitPoint,
    ref: SessionRef,
    base: Commit | undefined,
    definition: AgentDefinition,
    agentName: string,
    startedAt: number,
  ): Promise<ActivationEnd> {
    const { slots, store, users } = this.#parts;
    const abort = new AbortController();
    const signal = AbortSignal.any([keeper.signal, this.#stop.signal, abort.signal]);
    let agent: AcpAgent | undefined;
    let copy: WorkingCopy | undefined;
    try {
      const user = await users.acquire();
      this.#user = user;
      const slotDirectory = await slots.create(this.#nonce, user);
      copy = await store.hydrate(ref, undefined, slotDirectory, { owner: user, signal });
      await slots.furnish(this.#nonce, user);
      // Over the furnished slot, in which the agent is starting up already.
      const hydrated = base === undefined ? Promise.resolve() : copy.restore(base, { signal });
      const restored = hydrated.then(() => this.#measure("hydrate", startedAt));
      const started = this.#startAgent(definition, ref, keeper, slotDirectory, user, signal).then((made) => {
        this.#measure("sandbox", startedAt);
        agent = made.agent;
        return made;
      });
      // One that fails ends the other, and both are over before anything is cleaned up.
      const [, running] = await bothOrNeither(restored, started, abort);
      return await this.#serveTurns(keeper, ref, {
        ...running,
        commits,
        agentName,
        copy,
        slotDirectory,
        user,
        definition,
      });
    } finally {
      this.#enter("ending");
      agent?.close();
      await this.clean();
      copy?.close();
    }
  }

  async #startAgent(
    definition: AgentDefinition,
    ref: SessionRef,
    keeper: LeaseKeeper,
    slotDirectory: string,
    user: SandboxUser,
    signal: AbortSignal,
  ): Promise<{ readonly agent: AcpAgent; readonly sandbox: Sandbox }> {
    const { host, worker, clock, runtimeOf } = this.#parts;
    const sandbox = await runtimeOf(definition).start(
      {
        labels: { host, worker, ...ref, epoch: keeper.lease.epoch, nonce: this.#nonce },
        ...(definition.image === undefined ? {} : { image: definition.image }),
        ...(definition.rootfs === undefined ? {} : { rootfs: definition.rootfs }),
        ...(definition.command === undefined ? {} : { command: definition.command }),
        ...(definition.ociRuntime === undefined ? {} : { ociRuntime: definition.ociRuntime }),
        env: Object.fromEntries(
          Object.entries(definition.env).map(([name, value]) => [
            name,
            typeof value === "string" ? value : value.value,
          ]),
        ),
        workingDirectory: "/session/workspace",
        slotDirectory,
        user,
        limits: {
          memoryBytes: definition.limits.memory,
          cpus: definition.limits.cpus,
          pids: definition.limits.pids,
        },
      },
      signal,
    );
    this.#sandbox = sandbox;
    const agent = new AcpAgent(sandbox, definition, clock);
    await agent.initialize(signal);
    return { agent, sandbox };
  }

  async #serveTurns(keeper: LeaseKeeper, ref: SessionRef, running: Running): Promise<ActivationEnd> {
    const { clock } = this.#parts;
    const { agent, commits, sandbox, copy, definition } = running;
    const signal = AbortSignal.any([keeper.signal, this.#stop.signal]);
    const bornAt = clock.monotonic();
    this.#enter("opening");
    const agentSessionId = await agent.open(readNote(copy.base)?.agentSessionId, signal);
    void agent.ended.then(() => this.#wakeUp?.());
    let paused = false;
    const resume = async () => {
      if (paused) await sandbox.resume();
      paused = false;
    };
    let mayHaveChanged = false;
    const mirrorTheRest = async () => {
      await sandbox.pause();
      paused = true;
      await this.#lastMirror(keeper, running);
      mayHaveChanged = false;
    };

    for (;;) {
      const message = await commits.nextMessage(copy.base);
      // An agent that ended between turns did so by itself: the message is for the next activation.
      const spent = agent.hasEnded || clock.monotonic() - bornAt >= definition.longest;
      if (spent) {
        if (mayHaveChanged) await mirrorTheRest();
        await this.#release(keeper, { handBack: true });
        return { outcome: "later", inMs: 0 };
      }
      if (message !== undefined) {
        signal.throwIfAborted();
        await resume();
        await this.#turn(keeper, ref, running, agentSessionId, message);
        // It leaves the sandbox paused: what is there is what was committed.
        paused = true;
        mayHaveChanged = false;
        this.#phases = {};
      } else if (this.#lingerOver || definition.linger === 0 || !this.#parts.mayLinger()) {
        if (await this.#release(keeper, { handBack: false })) return { outcome: "released" };
      } else {
        await resume();
        mayHaveChanged = true;
        if (await this.#linger(keeper, running)) continue;
        await mirrorTheRest();
      }
    }
  }

  /** One turn, from its messages to their replies in the outbox. */
  async #turn(
    keeper: LeaseKeeper,
    ref: SessionRef,
    running: Running,
    agentSessionId: string,
    message: AcceptedMessage,
  ): Promise<void> {
    const { state, store, metrics, clock } = this.#parts;
    const { agent, agentName, commits, sandbox, copy, definition, slotDirectory, user } = running;
    const turnId = hashId("turn", this.#nonce, message.id);
    const log = this.#log.child({ turnId });
    const signal = AbortSignal.any([keeper.signal, this.#stop.signal]);

    this.#enter("prompting");
    this.#serving = message;
    this.#phases.queue ??= Math.max(0, clock.now() - Date.parse(message.acceptedAt));
    await state.startTurn(this.sessionId, keeper.lease, [message.id], turnId);
    await writeAttachments(store, ref, message, slotDirectory, user, signal);

    const events = new TurnEvents({ state, sessionId: this.sessionId, turnId, log });
    const text = new ReplyText(definition.limits.output);
    const promptedAt = clock.monotonic();
    log.info({ messageIds: [message.id], phases: this.#phases }, "prompt sent");
    try {
      await agent.prompt(buildPrompt([message]), {
        onUpdate: (update) => follow(update, text, events),
        signal,
      });
    } finally {
      await events.flush(keeper.signal);
    }
    this.#measure("prompt", promptedAt);

    this.#enter("mirroring");
    const mirroredAt = clock.monotonic();
    await sandbox.pause();
    const files = await collectOutbox(store, ref, turnId, slotDirectory, {
      limits: definition.limits,
      owner: user,
      signal,
    });
    const mirror = await this.#mirror(running, signal);
    this.#measure("mirror", mirroredAt);

    const committedAt = clock.monotonic();
    const reply = text.read(definition.reply);
    const silent = reply.trim() === "" && files.artifacts.length === 0 && files.refused.length === 0;
    const commit = await commits.commit(copy, mirror, "turn", {
      agent: agentName,
      turnId,
      agentSessionId,
      ends: [endMessage(message, "answered")],
      replies: silent ? [] : [replyTo(message, { kind: "answer", text: reply, ...files })],
    });
    this.#measure("commit", committedAt);

    metrics.turns.inc({ agent: agentName, outcome: "answered" });
    for (const [phase, ms] of Object.entries(this.#phases)) {
      metrics.turnPhaseSeconds.observe({ agent: agentName, phase }, ms / 1_000);
    }
    log.info(
      {
        messageIds: [message.id],
        generation: commit.generation,
        phases: this.#phases,
        refusedFiles: files.refused,
      },
      "turn answered",
    );
  }

  /** With the session's directories in place, whatever the agent made of them: the next sandbox needs them. */
  async #mirror({ copy, definition, user }: Running, signal: AbortSignal): Promise<Mirror> {
    const { disk, files } = definition.limits;
    await this.#parts.slots.furnish(this.#nonce, user);
    return copy.mirror({ exclude: definition.exclude, quota: { bytes: disk, files }, signal });
  }

  /** What background processes changed since the last commit is committed too. */
  async #lastMirror(keeper: LeaseKeeper, running: Running): Promise<void> {
    this.#enter("mirroring");
    const mirror = await this.#mirror(running, keeper.signal);
    if (mirror.isEmpty) return;
    await running.commits.commit(running.copy, mirror, "linger", { agent: running.agentName });
  }

  /** True where a message came; false where the idle time is over, the place is wanted, or the agent is gone. */
  async #linger(keeper: LeaseKeeper, { agent, definition }: Running): Promise<boolean> {
    const { clock, state } = this.#parts;
    this.#enter("lingering");
    const since = clock.monotonic();
    this.#lingeringSince = since;
    const onAbort = () => this.#wakeUp?.();
    keeper.signal.addEventListener("abort", onAbort, { once: true });
    try {
      // Asked here again: who came for a place before this one was seen to linger could not evict it.
      while (!this.#lingerOver && !agent.hasEnded && this.#parts.mayLinger()) {
        keeper.signal.throwIfAborted();
        const leftMs = since + definition.linger - clock.monotonic();
        if (leftMs <= 0) this.#lingerOver = true;
        else {
          const woken = new Promise<void>((resolve) => {
            const timer = setTimeout(resolve, Math.min(leftMs, MAILBOX_POLL_MS));
            this.#wakeUp = () => {
              clearTimeout(timer);
              resolve();
            };
          });
          // Read after the way to be told is there, so that nothing that comes in between is missed.
          if ((await state.readMailbox(this.sessionId, 1)).length > 0) return true;
          await woken;
        }
        keeper.signal.throwIfAborted();
      }
      return false;
    } finally {
      keeper.signal.removeEventListener("abort", onAbort);
      this.#wakeUp?.();
      this.#wakeUp = undefined;
      this.#lingeringSince = undefined;
    }
  }

  /** A turn, or what comes before it, failed: retry, dead letter, or hand back. Ends the activation. */
  async #failed(
    keeper: LeaseKeeper,
    commits: CommitPoint,
    ref: SessionRef,
    agentName: string,
    definition: AgentDefinition | undefined,
    error: unknown,
  ): Promise<ActivationEnd> {
    const { state, metrics, random } = this.#parts;
    const message = this.#serving;
    const handedBack = error instanceof HandedBackError;
    if (message === undefined) {
      // Between turns: nothing is lost, and the next activation begins from the last commit.
      this.#log.warn({ err: error }, "the activation ended between turns");
      await this.#release(keeper, { handBack: true });
      return { outcome: "later", inMs: handedBack ? 0 : TROUBLE_DELAY_MS };
    }
    const turnId = hashId("turn", this.#nonce, message.id);
    const failure = classifyFailure(error);
    const attempts = (await state.readMessage(message.id))?.attempts ?? 0;
    const counted = failure.kind === "counted";
    this.#log.warn(
      { turnId, messageIds: [message.id], err: error, kind: failure.kind, attempts },
      "turn failed",
    );

    const retry = definition?.retry ?? DEFAULT_RETRY;
    if (failure.kind === "hopeless" || (counted && attempts + 1 >= retry.attempts)) {
      if (counted) await this.#recordFailure(keeper, message, turnId, failure, 0);
      await this.#bury(keeper, commits, ref, agentName, message, failure);
      await this.#release(keeper, { handBack: true });
      return { outcome: "later", inMs: 0 };
    }
    const retryInMs = handedBack ? 0 : retryDelayMs(counted ? attempts : 0, retry, random);
    await this.#recordFailure(keeper, message, turnId, failure, retryInMs);
    metrics.turns.inc({ agent: agentName, outcome: handedBack ? "handed_back" : "failed" });
    await this.#release(keeper, { handBack: true });
    return { outcome: "later", inMs: retryInMs };
  }

  async #recordFailure(
    keeper: LeaseKeeper,
    message: AcceptedMessage,
    turnId: string,
    { kind, error }: Failure,
    retryInMs: number,
  ): Promise<void> {
    await this.#parts.state.failTurn(this.sessionId, keeper.lease, [message.id], {
      turnId,
      error,
      counted: kind === "counted",
      retryInMs,
    });
  }

  /**
   * Makes a message a dead letter: a commit that changes nothing, ends it, and tells the conversation so.
   * What waited behind it is next. One that a commit has ended already (a predecessor's, late) stays ended so.
   */
  async #bury(
    keeper: LeaseKeeper,
    commits: CommitPoint,
    ref: SessionRef,
    agentName: string,
    message: AcceptedMessage,
    { error }: Failure,
  ): Promise<void> {
    const { store, metrics } = this.#parts;
    const newest = await store.readNewest(ref, keeper.signal);
    await commits.adopt(newest);
    if ((await commits.nextMessage(newest))?.id !== message.id) return;
    const notice = replyTo(message, {
      kind: "notice",
      text: `This message could not be answered (${error.code}).`,
      artifacts: [],
      refused: [],
    });
    const commit = await commits.commitUnchanged(newest, "turn", {
      agent: agentName,
      ends: [endMessage(message, "dead", error)],
      replies: [notice],
    });
    metrics.turns.inc({ agent: agentName, outcome: "dead" });
    this.#log.warn(
      { messageIds: [message.id], generation: commit.generation, code: error.code },
      "dead letter",
    );
  }

  /** True where the lease was released; false where messages wait, unless they are handed back. */
  async #release(keeper: LeaseKeeper, { handBack }: { readonly handBack: boolean }): Promise<boolean> {
    const generation = this.#publishedGeneration;
    const released = await this.#parts.state.releaseLease(this.sessionId, keeper.lease, {
      generation,
      handBack,
      clean: this.#commits?.isUnsettled !== true,
    });
    if (released) keeper.stop();
    return released;
  }

  /** Released since nothing waits; undefined where a message came just now. */
  async #releaseIdle(keeper: LeaseKeeper): Promise<ActivationEnd | undefined> {
    return (await this.#release(keeper, { handBack: false })) ? { outcome: "released" } : undefined;
  }

  get #publishedGeneration(): number {
    return this.#commits?.publishedGeneration ?? this.#publishedBefore;
  }

  /**
   * Destroys the sandbox and removes the slot; what it changed since the last commit is dropped. False where
   * the sandbox would not die: to be tried again then, after the activation's end too.
   */
  async clean(): Promise<boolean> {
    const { slots, users } = this.#parts;
    try {
      await this.#sandbox?.destroy();
      await slots.remove(this.#nonce);
      if (this.#user !== undefined) await users.release(this.#user);
    } catch (error) {
      // The slot and its user stay taken: what still runs there must not meet another session.
      this.#stuck = true;
      this.#log.error({ err: error }, "the sandbox could not be removed; its place is not given away");
      return false;
    }
    this.#stuck = false;
    this.#sandbox = undefined;
    this.#user = undefined;
    return true;
  }

  #enter(state: ActivationState): void {
    const { activations } = this.#parts.metrics;
    activations.dec({ state: this.#state });
    activations.inc({ state });
    this.#state = state;
    this.#log.debug({ state }, "activation");
  }

  #measure(phase: TurnPhase, since: number): void {
    this.#phases[phase] = this.#parts.clock.monotonic() - since;
  }
}

/** Both results; where one fails, the other is aborted and waited for, and the first failure is thrown. */
async function bothOrNeither<A, B>(a: Promise<A>, b: Promise<B>, abort: AbortController): Promise<[A, B]> {
  try {
    return await Promise.all([a, b]);
  } catch (error) {
    abort.abort(error);
    await Promise.allSettled([a, b]);
    throw error;
  }
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

function replyTo(
  message: AcceptedMessage,
  content: { readonly kind: Reply["kind"]; readonly text: string } & Awaited<
    ReturnType<typeof collectOutbox>
  >,
): Reply {
  const { channel, conversation, thread, id } = message;
  return {
    index: 0,
    kind: content.kind,
    channel,
    conversation,
    ...(thread === undefined ? {} : { thread }),
    text: content.text,
    artifacts: [...content.artifacts],
    ...(content.refused.length === 0 ? {} : { refusedFiles: [...content.refused] }),
    inReplyTo: [id],
  };
}
