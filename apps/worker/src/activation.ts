import { randomBytes } from "node:crypto";
import {
  type SandboxMount,
  type SandboxRuntime,
  type SandboxUser,
  type SandboxUsers,
  SESSION_DIRECTORIES,
  type Slots,
} from "@longshore/sandbox";
import type { Commit, SessionRef, SessionStore, WorkingCopy } from "@longshore/session-store";
import {
  type AcceptedMessage,
  type AgentDefinition,
  type Clock,
  type Deaths,
  type Destination,
  FencedError,
  type Logger,
  type Metrics,
  type NextMessages,
  type ReplyWake,
  type Routed,
  type SessionState,
  type TakenLease,
  type WakeQueue,
} from "@longshore/shared";
import { AcpAgent } from "./acp-agent.ts";
import type { Agent } from "./agent.ts";
import { readNote } from "./commit-notes.ts";
import { CommitPoint } from "./commit-point.ts";
import { definitionHash } from "./definition-hash.ts";
import { type Egress, openEgress } from "./egress.ts";
import { AgentGoneError, HandedBackError, OvertakenError, WorkerKilledError } from "./errors.ts";
import { ExecAgent } from "./exec-agent.ts";
import { FailedMessages } from "./failed-messages.ts";
import { Gathering } from "./gathering.ts";
import { foreignTargets, type Grants, grantsOf, haveSameGrants } from "./grants.ts";
import { Hints } from "./hints.ts";
import { furnishHome, hasHomeFiles } from "./home-files.ts";
import { LeaseKeeper } from "./lease-keeper.ts";
import { MailboxAgent } from "./mailbox/mailbox-agent.ts";
import { accessPoints, makeMountPoints, mountParents, mountPatterns } from "./mounts.ts";
import { Operations } from "./operations.ts";
import { PhaseTimes } from "./phase-times.ts";
import { PublishedFiles } from "./published-files.ts";
import { type HeldSandbox, RunningSession } from "./running-session.ts";
import { type SandboxPlace, slotUse, startSandbox } from "./start-sandbox.ts";
import { ActivationTools, type ToolParts } from "./tools/activation-tools.ts";
import { ToolServer } from "./tools/tool-server.ts";
import { Turn } from "./turn.ts";
import { gatherMessages } from "./turn-messages.ts";
import { TurnSandbox } from "./turn-sandbox.ts";
import { type VolumeParts, Volumes } from "./volumes.ts";
import type { WarmSandbox } from "./warm-sandbox.ts";

/** How often a lingering activation reads the mailbox without being told, in ms: hints may be lost. */
const MAILBOX_POLL_MS = 5_000;
/** How often a takeover record may lose against late commits of predecessors before the session is left alone. */
const TAKEOVER_ATTEMPTS = 3;
/** How long to leave a session alone after a failure that is nobody's in particular, in ms. */
const TROUBLE_DELAY_MS = 2_000;
/** How long a session that gave a volume to others leaves it to them, in ms, before it asks for it again. */
const GIVE_WAY_MS = 1_000;
/** A message that so many workers died of, perhaps, is only served by a worker of its own. */
const SUSPECTS_MAX = 2;
/**
 * Deaths of workers that a message was alone on, before they came to its turn, until it is given up on. More than its turns may fail,
 * since it had no part in them yet: a host that dies may have taken the quarantine with it.
 */
const OPENINGS_MAX = 10;
const NO_DEATHS: Deaths = { suspects: 0, attempts: 0 };

/** What an activation needs of its worker. */
export interface ActivationParts {
  readonly state: SessionState;
  readonly store: SessionStore;
  readonly volumes: Pick<VolumeParts, "leases" | "wakes">;
  readonly slots: Pick<Slots, "create" | "furnish" | "isBounded" | "remove">;
  readonly users: Pick<SandboxUsers, "acquire" | "release">;
  readonly runtimeOf: (agent: AgentDefinition) => SandboxRuntime;
  /** What an agent's mounts (`resolveMounts`) and skills (`SkillCache`) come to now. */
  readonly mountsOf: (agent: AgentDefinition, grants: Grants, log: Logger) => Promise<SandboxMount[]>;
  /** A sandbox of this agent and definition that was started ahead, the caller's from now on. */
  readonly takeWarm: (agent: string, definition: AgentDefinition) => WarmSandbox | undefined;
  readonly replyWakes: WakeQueue<ReplyWake>;
  /** What the fleet's tools need besides. */
  readonly tools: Omit<ToolParts, "store">;
  /** The definition in force; undefined where the agent is not configured (any more). */
  readonly agentOf: (name: string, tenant: string) => AgentDefinition | undefined;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: () => number;
  readonly host: string;
  readonly worker: string;
  readonly leaseMs: number;
  /** Lets a message's turn start, or gives after how many ms it is to be looked at again (`TurnAdmission`). */
  readonly admit: (message: AcceptedMessage) => Promise<number | undefined>;
  /** Told that no turn runs while it lingers. */
  readonly onRest: () => Promise<void>;
  /** Told of each turn that starts, before it does. */
  readonly onTurn: (tenant: string) => void;
  /** False where others wait for a place. */
  readonly mayLinger: () => boolean;
  /** How many turns, and for how many ms, it serves its session at a stretch while others wait for a place. */
  readonly quantum: () => { readonly turns: number; readonly time: number };
  /** Whether the worker is there for this one activation, so that its death would be the message's fault. */
  readonly isAlone: boolean;
}

export type ActivationEnd =
  /** Released, nothing waits: the job is done. */
  | { readonly outcome: "released" }
  /** The session is to be looked at again after `inMs`: leased elsewhere, a retry that waits, handed back. */
  | { readonly outcome: "later"; readonly inMs: number }
  /** The next message may kill workers: it is to have one of its own (`Quarantine`), for a turn of so long at most. */
  | { readonly outcome: "quarantine"; readonly turnMs: number };

export const activationStates = [
  "leasing",
  "hydrating",
  "applying",
  "opening",
  "prompting",
  "mirroring",
  "committing",
  "publishing",
  "lingering",
  "ending",
] as const;
export type ActivationState = (typeof activationStates)[number];

/** A session under its lease. */
interface HeldSession {
  readonly ref: SessionRef;
  readonly keeper: LeaseKeeper;
  readonly commits: CommitPoint;
  readonly agentName: string;
}

/** What a sandbox shows besides its session, for whom it is. */
interface Granted {
  readonly grants: Grants;
  readonly volumes: Volumes;
}

/** What its work needs besides: an agent that is configured. */
interface ServedSession extends HeldSession {
  readonly definition: AgentDefinition;
  readonly operations: Operations;
  readonly failed: FailedMessages;
  /** Aborted where what runs has to stop: the lease is lost, or the worker must be gone. */
  readonly signal: AbortSignal;
}

/**
 * A worker holding one session: hydrated directory plus running sandbox, serving turns one after another.
 *
 * leasing     takes the lease (new epoch). Not to be had → over, to be looked at later.
 * hydrating   reads the newest commit, publishes what an earlier activation committed and did not publish
 *             (adoption). A lease that its last holder did not release begins with a takeover record: from then
 *             on that one's late commit loses (I5). So does one whose newest commit is a checkpoint: that record
 *             undoes the turn that it was made in. Then, unless it is applying, it restores the directory while
 *             the sandbox starts, or into the slot of a warm one.
 * applying    an operation (`Operations`) at the head of the mailbox: without a sandbox where none runs yet. In
 *             between turns an upload is written into the paused directory; a rollback ends the sandbox first,
 *             and → hydrating under the same lease. → whatever the next message needs.
 * opening     `initialize`, and the agent's own session of last time, or a new one. A warm agent that fails here
 *             → hydrating under the same lease, with a cold start: it is no message's fault.
 * prompting   the head of the mailbox is the prompt (I1), and by `busy` what is behind it (`Gathering`): see `Turn`. A checkpoint goes through mirroring,
 *             committing and publishing, and back to prompting.
 * mirroring   the sandbox is paused; the files of `outbox/` become artifacts; what changed is uploaded.
 * committing  one put-if-absent: the change, the messages it ends, the replies (I3, I6).
 * publishing  one fenced script: replies to the outbox, messages out of the mailbox; then the files of
 *             `publish` patterns. → the next message's state while some wait, else lingering.
 * lingering   waits for a hint, the idle time, eviction, a stop. Ends with a last mirror, also where the agent's
 *             definition changed meanwhile: the next message is the next activation's. Released only
 *             where nothing waits: a message that came meanwhile → its state.
 * ending      sandbox destroyed, slot removed; the lease released, or left to expire.
 *
 * hydrating → over, too, where the message may have killed the workers before this one: it is served by a worker of its
 * own (`Quarantine`), or is a dead letter by now.
 *
 * A turn that fails ends the activation: its directory is no generation, so the retry starts from the one
 * before (`FailedMessages`). It counts for the message of the turn alone: what fails between its commit and the
 * next prompt ends the activation too, and no message is to blame. An operation that can't be applied ends as a
 * dead letter, and a live session goes on. A commit of which the store did not say whether it stands, and files
 * that could not be published, leave the lease unclean, so that the next activation looks. A lost lease
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
  #sandbox: HeldSandbox | undefined;
  #volumes: Volumes | undefined;
  #user: SandboxUser | undefined;
  #egress: Egress | undefined;
  #tools: ToolServer | undefined;
  #state: ActivationState = "leasing";
  #lingeringSince: number | undefined;
  #lingerOver = false;
  #wakeUp: (() => void) | undefined;
  readonly #hints = new Hints();
  readonly #phases: PhaseTimes;
  /**
   * The messages that a failure is about: from when they are found at the head of the mailbox until their commit
   * stands. What fails after that (publication, lingering) is no fault of theirs, nor of the one behind them.
   */
  #serving: readonly AcceptedMessage[] = [];
  #stuck = false;
  /** Names the slot: the activation's own, or that of the warm sandbox that it took. */
  #slot = this.#nonce;
  /** False after one turned out to be of no use: the next start is a cold one. */
  #trustsWarm = true;
  #commits: CommitPoint | undefined;
  /** The newest generation that Redis knew to be published when the lease was taken. */
  #publishedBefore = 0;
  /** Ids of messages that were cancelled while no activation held them; empty once they have ended. */
  #cancelled: readonly string[] = [];
  /** Ids of the messages of a turn that an earlier activation began and did not end. */
  #left: readonly string[] = [];
  /** The message at the head of the mailbox when the lease was taken, and who died before its turn was started. */
  #opened: Deaths & { readonly messageId?: string | undefined } = NO_DEATHS;

  constructor(sessionId: string, parts: ActivationParts) {
    this.sessionId = sessionId;
    this.#parts = parts;
    this.#log = parts.log.child({ sessionId });
    this.#phases = new PhaseTimes(parts.clock);
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

  /** The session has a new message, perhaps, or its turn is to end before its time. */
  hint(): void {
    this.#wakeUp?.();
    this.#hints.give();
  }

  /** Lingers no more: the place is wanted, or the worker stops. What runs goes on. */
  evict(): void {
    this.#lingerOver = true;
    this.hint();
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
    return nonce === this.#nonce || nonce === this.#slot;
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
    const { state, worker, leaseMs, clock, isAlone } = this.#parts;
    const takenAt = clock.monotonic();
    const result = await state.takeLease(this.sessionId, this.#nonce, worker, leaseMs, isAlone);
    if (!result.taken) return { outcome: "later", inMs: result.forMs };
    this.#phases.measure("lease", takenAt);

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
    const stopActing = () => {
      this.#egress?.proxy.close();
      this.#tools?.close();
      void this.#sandbox?.pause().catch(() => undefined);
    };
    keeper.signal.addEventListener("abort", stopActing, { once: true });
    const { publishedGeneration, left, opened, waiting } = result.lease;
    this.#publishedBefore = publishedGeneration;
    this.#opened = { messageId: waiting.waking[0]?.message.id, ...opened };
    if (left?.mark === "cancel") this.#cancelled = left.messageIds;
    else if (left !== undefined) this.#left = left.messageIds;
    try {
      return await this.#hold(keeper, result.lease.before, waiting);
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
   * Serves under the lease until it is released: again where a message came just then or a rollback ended the
   * sandbox, and where a predecessor's late commit came in between.
   */
  async #hold(
    keeper: LeaseKeeper,
    leasedAfter: TakenLease["before"],
    leasedWith: NextMessages,
  ): Promise<ActivationEnd> {
    let before = leasedAfter;
    let waiting: NextMessages | undefined = leasedWith;
    let overtaken = 0;
    for (;;) {
      try {
        const end = await this.#serve(
          keeper,
          before,
          waiting ?? (await this.#parts.state.readWaiting(this.sessionId, 1)),
        );
        waiting = undefined;
        if (end !== undefined) return end;
        if (this.#stuck) return await this.#later(keeper, TROUBLE_DELAY_MS);
        if (this.#commits?.hasCommitted) before = this.#commits.isClean ? "clean" : "unclean";
      } catch (error) {
        if (!(error instanceof OvertakenError) || ++overtaken === TAKEOVER_ATTEMPTS || this.#stuck)
          throw error;
        before = "unclean";
        waiting = undefined;
        this.#log.warn(
          { generation: error.generation },
          "adopting what an earlier activation committed late",
        );
      }
    }
  }

  /** Undefined where it has to begin again under the same lease. */
  async #serve(
    keeper: LeaseKeeper,
    before: TakenLease["before"],
    waiting: NextMessages,
  ): Promise<ActivationEnd | undefined> {
    const { state } = this.#parts;
    this.#enter("hydrating");
    const head = waiting.waking[0]?.message;
    const { tenant, agent: agentName } = head ?? (await state.inspect(this.sessionId));
    // Nothing waits and nothing is known: a wake for a session that Redis forgot.
    if (tenant === undefined || agentName === undefined) return this.#releaseIdle(keeper);

    this.#serving = asList(head);
    const ref = { tenant, sessionId: this.sessionId };
    const definition = this.#parts.agentOf(agentName, tenant);
    const signal = AbortSignal.any([keeper.signal, this.#stop.signal]);
    const publishedFiles = new PublishedFiles({
      store: this.#parts.store,
      ref,
      patterns: definition?.publish ?? [],
      log: this.#log,
      signal,
    });
    const commits = new CommitPoint(
      { ...this.#parts, log: this.#log },
      {
        keeper,
        ref,
        publishedGeneration: this.#publishedGeneration,
        publishedFiles,
        waiting,
        onState: (entered, kind) => {
          if (entered === "publishing" && kind !== "checkpoint") this.#serving = [];
          this.#enter(entered);
        },
      },
    );
    this.#commits = commits;
    const held = { ref, keeper, commits, agentName };
    const parts = { ...this.#parts, ...held, log: this.#log, signal };
    const failed = new FailedMessages({ ...parts, definition });
    try {
      let base = await this.#begin(held, publishedFiles, before);
      if (base === "idle") return await this.#releaseIdle(keeper);
      base = await this.#endCancelled(base, held);
      if (definition === undefined) throw new AgentGoneError(agentName);
      if (await this.#needsQuarantine(held, definition)) {
        await this.#release(keeper, { handBack: true });
        return { outcome: "quarantine", turnMs: definition.limits.turn };
      }
      const operations = new Operations({ ...parts, definition });
      return await this.#serveFrom(base, { ...held, definition, operations, failed, signal });
    } catch (error) {
      if (error instanceof OvertakenError || error instanceof FencedError || keeper.signal.aborted)
        throw error;
      return await this.#failed(keeper, failed, error);
    }
  }

  /** Finishes what earlier activations left, and gives the generation to build on; `idle` where nothing waits. */
  async #begin(
    { ref, keeper, commits, agentName }: HeldSession,
    publishedFiles: PublishedFiles,
    before: TakenLease["before"],
  ): Promise<Commit | undefined | "idle"> {
    const newest = await this.#parts.store.readNewest(ref, keeper.signal);
    const own = newest?.nonce === this.#nonce;
    // Redis came back with older data: what it says of the last holder may be older, too.
    const older = newest !== undefined && !own && newest.epoch >= keeper.lease.epoch;
    await commits.adopt(newest, { forgotten: before === "unknown" });
    await publishedFiles.begin(newest, before === "clean" && !older);
    const message = await commits.nextMessage(newest);
    if (message === undefined) return "idle";
    this.#phases.measureQueue(message.acceptedAt);
    this.#serving = asList(message);
    const { partial = false } = newest ?? {};
    const takeover = older || before === "unclean" || (before === "unknown" && newest !== undefined);
    if (!partial && (own || !takeover)) return newest;
    const base = await commits.commitWhole(newest, partial ? "rollback" : "takeover", { agent: agentName });
    this.#serving = asList(message);
    return base;
  }

  /** Ends what was cancelled while nobody held the session, without a prompt. Gives the generation to build on. */
  async #endCancelled(
    base: Commit | undefined,
    { commits, agentName }: HeldSession,
  ): Promise<Commit | undefined> {
    if (this.#cancelled.length === 0) return base;
    const commit = await commits.cancel(base, this.#cancelled, agentName);
    this.#cancelled = [];
    return commit ?? base;
  }

  /**
   * Whether the message at the head of the mailbox, or what is opened for it, was at work on more than one worker that
   * died, so that it may take no other one's turn with it (I10). It has failed by the deaths of those that it was alone on.
   *
   * @throws WorkerKilledError where those were as many as it may fail
   */
  async #needsQuarantine({ keeper }: HeldSession, { retry }: AgentDefinition): Promise<boolean> {
    const messageId = this.#serving[0]?.id;
    const { state, isAlone } = this.#parts;
    const opened = this.#opened.messageId === messageId ? this.#opened : NO_DEATHS;
    const at = this.#left.indexOf(messageId ?? "");
    const counts = at < 0 ? [] : await state.countDeaths(this.sessionId, keeper.lease, this.#left);
    const { suspects, attempts } = counts[at] ?? NO_DEATHS;
    if (opened.suspects + suspects < SUSPECTS_MAX) return false;
    const isGuilty = attempts >= retry.attempts || opened.attempts >= Math.max(retry.attempts, OPENINGS_MAX);
    if (isGuilty) throw new WorkerKilledError(attempts + opened.attempts);
    return !isAlone;
  }

  /** Applies the operations at the head of the mailbox; then its messages, if any, get a sandbox. */
  async #serveFrom(base: Commit | undefined, session: ServedSession): Promise<ActivationEnd | undefined> {
    const { keeper, commits, operations, signal } = session;
    let newest = base;
    for (;;) {
      const message = await commits.nextMessage(newest);
      this.#serving = asList(message);
      if (message === undefined) return await this.#releaseIdle(keeper);
      const { operation } = message;
      if (operation === undefined) {
        const waitMs = await this.#parts.admit(message);
        if (waitMs !== undefined) return await this.#later(keeper, waitMs);
        const taken = await this.#takeVolumes(session, message);
        if (typeof taken === "number") return await this.#later(keeper, taken);
        return await this.#withSandbox(newest, session, taken);
      }
      signal.throwIfAborted();
      this.#enter("applying");
      newest =
        operation.type === "upload"
          ? await operations.upload({ base: newest }, message, operation)
          : await operations.rollback(newest, message, operation);
      this.#phases.clear();
    }
  }

  /** What a sandbox for a message shows besides the session; or after how many ms to ask again. */
  async #takeVolumes(
    { definition, ref, agentName, keeper }: ServedSession,
    message: AcceptedMessage,
  ): Promise<Granted | number> {
    const grants = grantsOf(definition, message);
    const { leases, wakes } = this.#parts.volumes;
    const volumes = await Volumes.take(
      { ...this.#parts, leases, wakes },
      { ...ref, agent: agentName, nonce: this.#nonce, keeper, log: this.#log },
      definition,
      grants.user,
      () => this.#wakeUp?.(),
    );
    if (typeof volumes === "number") return volumes;
    this.#volumes = volumes;
    return { grants, volumes };
  }

  /** Makes the slot, restores the directory while the sandbox starts, serves turns, and cleans up. */
  async #withSandbox(
    base: Commit | undefined,
    session: ServedSession,
    granted: Granted,
  ): Promise<ActivationEnd | undefined> {
    const { slots, store, users, clock, metrics, runtimeOf } = this.#parts;
    const { ref, definition, agentName } = session;
    const startedAt = clock.monotonic();
    this.#enter("hydrating");
    const abort = new AbortController();
    const signal = AbortSignal.any([session.signal, abort.signal]);
    let agent: Agent | undefined;
    let copy: WorkingCopy | undefined;
    try {
      const targets = foreignTargets(definition, granted.grants);
      const warm = granted.grants.mounts.length > 0 ? undefined : this.#takeWarm(agentName, definition);
      if (warm !== undefined) metrics.sandboxes.inc({ agent: agentName, start: "warm" });
      if (base !== undefined && warm !== undefined && !(await this.#closeAhead(warm.agent, signal)))
        return undefined;
      const user = warm?.user ?? (await users.acquire());
      this.#user = user;
      // Once: an engine that comes or goes meanwhile does not make it another one's.
      const runtime = runtimeOf(definition);
      const use = slotUse(definition, runtime);
      // The others start theirs turn by turn, later.
      if (warm === undefined && definition.contract === "acp")
        runtime.foresee?.({ worker: this.#parts.worker, nonce: this.#slot });
      const slotDirectory = warm?.slotDirectory ?? (await slots.create(this.#slot, user, use));
      const held = await store.hydrate(ref, undefined, slotDirectory, { owner: user, inUse: true, signal });
      copy = held;
      // Over the furnished slot, in which the agent is starting up already.
      // A mount whose point is removed is gone from a warm sandbox.
      const leave = {
        keep: [...SESSION_DIRECTORIES, ...mountParents(targets)],
        exclude: mountPatterns(targets),
      };
      const hydrated = base === undefined ? Promise.resolve() : held.restore(base, { ...leave, signal });
      const restored = hydrated.then(async () => {
        const { home } = definition;
        if (home !== undefined && !hasHomeFiles(held.table))
          await furnishHome(slotDirectory, home, user, signal);
        this.#phases.measure("hydrate", startedAt);
      });
      const start = () => this.#startAgent(session, granted, { runtime, slotDirectory, user }, signal);
      // What is restored must not change the way to a mount under the engine's hands.
      const hasMounts = targets.length > 0 || accessPoints(definition).length > 0;
      const starting = warm ?? (hasMounts ? restored.then(start) : start());
      const started = Promise.resolve(starting).then((made) => {
        this.#phases.measure("sandbox", startedAt);
        agent = made.agent;
        return made;
      });
      // One that fails ends the other, and both are over before anything is cleaned up.
      const [, made] = await bothOrNeither(restored, started, abort);
      const { volumes } = granted;
      const place = {
        copy,
        definition,
        slots,
        use,
        nonce: this.#slot,
        slotDirectory,
        user,
        volumes,
        targets,
      };
      const opened = await this.#open(made.agent, copy, session, warm !== undefined);
      if (opened === undefined) return undefined;
      const running = new RunningSession({ ...made, ...place });
      return await this.#serveMessages(session, granted.grants, running, opened.agentSessionId);
    } finally {
      this.#enter("ending");
      agent?.close();
      await this.clean();
      copy?.close();
    }
  }

  /** The agent and its sandbox, up while the directory is being restored; where each turn has a sandbox of its own, none yet. */
  async #startAgent(
    { definition, agentName, ref, keeper }: ServedSession,
    { grants, volumes }: Granted,
    where: Pick<SandboxPlace, "slotDirectory" | "user"> & { readonly runtime: SandboxRuntime },
    signal: AbortSignal,
  ): Promise<{ readonly agent: Agent; readonly sandbox: HeldSandbox }> {
    const { host, worker, clock, mountsOf, metrics } = this.#parts;
    const { runtime, slotDirectory, user } = where;
    const labels = { host, worker, ...ref, epoch: keeper.lease.epoch, nonce: this.#slot };
    this.#egress = openEgress(definition, { metrics, log: this.#log });
    // The others have no use for tools: a command is no agent that would take them, and NanoClaw's brings its own.
    const tools = definition.contract === "acp" ? new ToolServer(this.#log) : undefined;
    this.#tools = tools;
    const place = { labels, slotDirectory, user, egress: this.#egress?.proxy, tools };
    const volumeMounts = await volumes.hydrate(this.#slot, user, slotUse(definition, runtime), signal);
    const start = async (startSignal: AbortSignal) => {
      metrics.sandboxes.inc({ agent: agentName, start: "cold" });
      const mounts = [...(await mountsOf(definition, grants, this.#log)), ...volumeMounts];
      const points = [...accessPoints(definition), ...mounts.map(({ target }) => target)];
      await makeMountPoints(slotDirectory, points, user);
      return await startSandbox(runtime, definition, { ...place, mounts }, startSignal);
    };
    if (definition.contract !== "acp") {
      const sandbox = new TurnSandbox(start);
      this.#sandbox = sandbox;
      const parts = { sandbox, definition, clock };
      const agent =
        definition.contract === "exec"
          ? new ExecAgent({ ...parts, sessionId: ref.sessionId })
          : new MailboxAgent({ ...parts, slotDirectory, log: this.#log });
      return { agent, sandbox };
    }
    const sandbox = await start(signal);
    this.#sandbox = sandbox;
    const agent = new AcpAgent(sandbox, definition, clock);
    await agent.initialize(signal);
    return { agent, sandbox };
  }

  /** What is taken is this activation's at once, for `clean` and for the reaper. */
  #takeWarm(agentName: string, definition: AgentDefinition): WarmSandbox["parts"] {
    const warm = this.#trustsWarm ? this.#parts.takeWarm(agentName, definition) : undefined;
    if (warm?.parts === undefined) return undefined;
    this.#slot = warm.nonce;
    this.#user = warm.parts.user;
    this.#sandbox = warm.parts.sandbox;
    this.#tools = warm.parts.tools;
    this.#egress = warm.parts.egress;
    this.#egress?.bind(this.#log);
    const { isOpen } = warm.parts.agent;
    this.#log.debug({ nonce: warm.nonce, opened: isOpen }, "took a warm sandbox");
    return warm.parts;
  }

  /** What a warm agent opened ahead is of no use to a session that has files already. False where the agent is of none, either. */
  async #closeAhead(agent: AcpAgent, signal: AbortSignal): Promise<boolean> {
    try {
      await agent.closeAhead(signal);
      return true;
    } catch (error) {
      if (signal.aborted) throw error;
      this.#distrustWarm(error);
      return false;
    }
  }

  #distrustWarm(error: unknown): void {
    this.#trustsWarm = false;
    this.#log.warn({ err: error }, "a warm sandbox could not be used; starting a cold one");
  }

  /**
   * The agent's own session, where it has any. Undefined where the agent was started ahead and can't be used: it may have
   * died since it was last seen to live.
   */
  async #open(
    agent: Agent,
    copy: WorkingCopy,
    { signal }: ServedSession,
    isWarm: boolean,
  ): Promise<{ readonly agentSessionId: string | undefined } | undefined> {
    this.#enter("opening");
    try {
      return { agentSessionId: await agent.open(readNote(copy.base)?.agentSessionId, signal) };
    } catch (error) {
      if (!isWarm || signal.aborted) throw error;
      this.#distrustWarm(error);
      return undefined;
    }
  }

  /** Undefined where what waits needs a session without a sandbox. */
  async #serveMessages(
    session: ServedSession,
    grants: Grants,
    running: RunningSession,
    agentSessionId: string | undefined,
  ): Promise<ActivationEnd | undefined> {
    const { clock, mayLinger, state, agentOf } = this.#parts;
    const { keeper, definition, signal, agentName, ref } = session;
    const { agent, copy } = running;
    const bornAt = clock.monotonic();
    let stretch = { since: bornAt, turns: 0 };
    let served = 0;
    const hasServedItsQuantum = () => {
      const { turns, time } = this.#parts.quantum();
      return stretch.turns >= turns || (stretch.turns > 0 && clock.monotonic() - stretch.since >= time);
    };
    void agent.ended.then(() => this.#wakeUp?.());
    const tools = new ActivationTools({ ...this.#parts.tools, store: this.#parts.store }, ref, signal);
    this.#tools?.bind(tools);
    const isOver = () => this.#lingerOver;
    const gathering = new Gathering({ ...session, state, clock, hints: this.#hints, isOver });

    for (;;) {
      const next = await gathering.next(copy.base);
      // Whoever takes it next waits on from when the messages were accepted.
      if (next === undefined) {
        await this.#mirrorTheRest(session, running);
        return await this.#later(keeper, 0);
      }
      const message = next.waking[0]?.message;
      // An agent that ended between turns did so by itself: the message is for the next activation.
      // One whose definition is another by now runs in the sandbox of the old one.
      const inForce = agentOf(agentName, ref.tenant);
      const isChanged = inForce !== undefined && definitionHash(inForce) !== definitionHash(definition);
      const isAnothers =
        message !== undefined &&
        message.operation === undefined &&
        !haveSameGrants(grantsOf(definition, message), grants);
      const { isWanted } = running.volumes;
      // Not before it has served what it took them for: sessions that are slow to begin would give way for ever.
      const givesWay = isWanted && (served > 0 || message === undefined);
      const spent =
        agent.hasEnded ||
        isChanged ||
        isAnothers ||
        givesWay ||
        (hasServedItsQuantum() && !mayLinger()) ||
        clock.monotonic() - bornAt >= definition.longest;
      if (spent) {
        await this.#mirrorTheRest(session, running);
        return await this.#later(keeper, isWanted ? GIVE_WAY_MS : 0);
      }
      if (message !== undefined) {
        signal.throwIfAborted();
        // The agent would remember another past. What it did since the last commit goes, as with its turn.
        if (message.operation?.type === "rollback") return undefined;
        if (message.operation === undefined) {
          const waitMs = await this.#parts.admit(message);
          if (waitMs !== undefined) {
            await this.#mirrorTheRest(session, running);
            return await this.#later(keeper, waitMs);
          }
          // Only now: what fails while it waits is not its fault.
          this.#serving = next.waking.map((waiting) => waiting.message);
          await running.resume();
          this.#parts.onTurn(session.ref.tenant);
          const messages = await gatherMessages(state, this.sessionId, next.waking, {
            length: next.context,
            since: clock.now() - definition.context.keep,
          });
          const turn = new Turn(messages, {
            ...this.#parts,
            ...session,
            log: this.#log,
            running,
            tools,
            agentSessionId,
            destinationsOf: (conversation) => this.#destinationsOf(conversation),
            phases: this.#phases,
            hints: this.#hints,
            onState: (entered) => this.#enter(entered),
          });
          tools.turn = turn;
          await turn.run().finally(() => {
            tools.turn = undefined;
          });
          stretch.turns++;
        } else {
          this.#serving = asList(message);
          this.#enter("applying");
          await running.pause();
          await session.operations
            .upload({ copy }, message, message.operation)
            .catch((error: unknown) => session.failed.buryLive(copy, message, error));
        }
        served++;
        this.#phases.clear();
      } else if (this.#lingerOver || definition.linger === 0 || !mayLinger()) {
        await this.#mirrorTheRest(session, running);
        if (await this.#release(keeper, { handBack: false })) return { outcome: "released" };
      } else {
        await this.#parts.onRest();
        await running.resume();
        const wasCalled = await this.#linger(session, running);
        stretch = { since: clock.monotonic(), turns: 0 };
        if (wasCalled) continue;
        await this.#mirrorTheRest(session, running);
      }
    }
  }

  /** None where the configuration has no such route any more: the turn goes on. */
  #destinationsOf(conversation: Destination): Routed["destinations"] {
    try {
      return this.#parts.tools.route(conversation).destinations;
    } catch (error) {
      this.#log.warn({ err: error }, "the conversation has no route any more");
      return {};
    }
  }

  /** What background processes changed since the last commit is committed too. */
  async #mirrorTheRest({ keeper, commits, agentName }: HeldSession, running: RunningSession): Promise<void> {
    if (!running.mayHaveChanged) return;
    await running.pause();
    this.#enter("mirroring");
    const mirror = await running.mirror(keeper.signal);
    await commits.commitRest(running, mirror, { agent: agentName });
  }

  /** True where a message came; false where the idle time is over, the place is wanted, or the agent is gone. */
  async #linger(
    { keeper, commits }: HeldSession,
    { agent, definition, volumes }: RunningSession,
  ): Promise<boolean> {
    const { clock } = this.#parts;
    this.#enter("lingering");
    const since = clock.monotonic();
    this.#lingeringSince = since;
    const onAbort = () => this.#wakeUp?.();
    keeper.signal.addEventListener("abort", onAbort, { once: true });
    try {
      // Asked here again: who came for a place before this one was seen to linger could not evict it.
      while (!this.#lingerOver && !agent.hasEnded && !volumes.isWanted && this.#parts.mayLinger()) {
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
          if (await commits.hasWaiting()) return true;
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

  /** A turn, an operation, or what comes before it, failed. Ends the activation. */
  async #failed(keeper: LeaseKeeper, failed: FailedMessages, error: unknown): Promise<ActivationEnd> {
    const messages = this.#serving;
    if (messages.length > 0) return await this.#later(keeper, await failed.settle(messages, error));
    // Between turns: nothing is lost, and the next activation begins from the last commit.
    this.#log.warn({ err: error }, "the activation ended between turns");
    return await this.#later(keeper, error instanceof HandedBackError ? 0 : TROUBLE_DELAY_MS);
  }

  /** True where the lease was released; false where messages wait, unless they are handed back. */
  async #release(keeper: LeaseKeeper, { handBack }: { readonly handBack: boolean }): Promise<boolean> {
    const generation = this.#publishedGeneration;
    const released = await this.#parts.state.releaseLease(this.sessionId, keeper.lease, {
      generation,
      handBack,
      clean: this.#commits?.isClean !== false,
    });
    if (released) keeper.stop();
    return released;
  }

  /** Released since nothing waits; undefined where a message came just now. */
  async #releaseIdle(keeper: LeaseKeeper): Promise<ActivationEnd | undefined> {
    return (await this.#release(keeper, { handBack: false })) ? { outcome: "released" } : undefined;
  }

  /** Released for now, whatever waits. */
  async #later(keeper: LeaseKeeper, inMs: number): Promise<ActivationEnd> {
    await this.#release(keeper, { handBack: true });
    return { outcome: "later", inMs };
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
    this.#egress?.proxy.close();
    this.#tools?.close();
    try {
      await this.#sandbox?.destroy();
      const decide = this.#keeper?.signal.aborted === false && this.#commits?.isUnsettled === false;
      await this.#volumes?.close({ decide });
      await this.#volumes?.remove();
      await slots.remove(this.#slot);
      if (this.#user !== undefined) await users.release(this.#user);
    } catch (error) {
      // The slot and its user stay taken: what still runs there must not meet another session.
      this.#stuck = true;
      this.#log.error({ err: error }, "the sandbox could not be removed; its place is not given away");
      return false;
    }
    this.#stuck = false;
    this.#sandbox = undefined;
    this.#volumes = undefined;
    this.#user = undefined;
    this.#slot = this.#nonce;
    return true;
  }

  #enter(state: ActivationState): void {
    const { activations } = this.#parts.metrics;
    activations.dec({ state: this.#state });
    activations.inc({ state });
    this.#state = state;
    this.#log.debug({ state }, "activation");
  }
}

function asList(message: AcceptedMessage | undefined): readonly AcceptedMessage[] {
  return message === undefined ? [] : [message];
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
