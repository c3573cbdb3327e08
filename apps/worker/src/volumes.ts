import type { SandboxMount, SandboxUser, Slots, SlotUse } from "@longshore/sandbox";
import type {
  Commit,
  CommitKind,
  CommitMeta,
  SessionStore,
  VolumeRef,
  WorkingCopy,
} from "@longshore/session-store";
import {
  type AgentDefinition,
  type Clock,
  FencedError,
  type Lease,
  type Logger,
  type SessionState,
  type TurnWakes,
  USER_PLACEHOLDER,
  type VolumeDefinition,
  type VolumeLeases,
  type VolumeNote,
  volumeNoteSchema,
} from "@longshore/shared";
import { nextNote, publishedReplies, readNote } from "./commit-notes.ts";
import { readUndelivered } from "./commit-point.ts";
import { CommitNoteUnreadableError, OvertakenError } from "./errors.ts";
import { LeaseKeeper } from "./lease-keeper.ts";

/** How long a session that waits for a volume is left alone if nobody calls it, in ms: calls may be lost. */
const UNCALLED_MS = 5_000;

/** How often a takeover record may lose against late commits of another session's last activation. */
const TAKEOVER_ATTEMPTS = 3;

export interface VolumeParts {
  readonly store: SessionStore;
  readonly state: SessionState;
  readonly leases: VolumeLeases;
  readonly wakes: Pick<TurnWakes, "hurry">;
  readonly slots: Pick<Slots, "create" | "remove">;
  readonly clock: Clock;
  readonly worker: string;
  readonly leaseMs: number;
}

/** The session that has them. */
export interface VolumeSession {
  readonly tenant: string;
  readonly sessionId: string;
  readonly agent: string;
  readonly nonce: string;
  readonly keeper: LeaseKeeper;
  readonly log: Logger;
}

interface OpenVolume {
  readonly definition: VolumeDefinition;
  readonly ref: VolumeRef;
  /** Absent where it is only read. */
  readonly keeper?: LeaseKeeper;
  /** The newest generation that stands. */
  whole: Commit | undefined;
  copy?: WorkingCopy;
  directory?: string;
  /** Committed, and not known to stand. */
  partial?: Commit | undefined;
}

/** The name of a volume in the store, for a user. */
export function volumeName({ name }: VolumeDefinition, user: string | undefined): string {
  return user === undefined ? name : name.replaceAll(USER_PLACEHOLDER, user);
}

/**
 * The volumes of an activation's sandbox.
 *
 * Those that it writes are its own from before it looks at them until its sandbox is gone. A turn's change of one is
 * committed with the turn, or not at all:
 *
 * prepare   commits what changed, as partial: nobody sees that.
 * (the session's commit names these generations: from then on they stand)
 * settle    commits them again, as whole.
 *
 * Killed before the session's commit, the partial generation is undone; after it, it stands. Whoever opens the volume next
 * does either, and looks into the log of the session. Where that one's last activation may still commit, a takeover record
 * is put there first, as its next one would do (I5): then it can't.
 */
export class Volumes {
  readonly #parts: VolumeParts;
  readonly #session: VolumeSession;
  readonly #open: OpenVolume[] = [];
  readonly #onWanted: () => void;
  #isWanted = false;
  #slots: string[] = [];

  private constructor(parts: VolumeParts, session: VolumeSession, onWanted: () => void) {
    this.#parts = parts;
    this.#session = session;
    this.#onWanted = onWanted;
  }

  /**
   * Takes the volumes of an agent, or none of them.
   *
   * @param user as `userPath` names whom the turn is for; undefined where no name asks for it
   * @param onWanted told when another session waits for one of them
   * @returns after how many ms to ask again, where one of them is another session's
   * @throws OvertakenError; errors of the store and of Redis
   */
  static async take(
    parts: VolumeParts,
    session: VolumeSession,
    definition: AgentDefinition,
    user: string | undefined,
    onWanted: () => void,
  ): Promise<Volumes | number> {
    const volumes = new Volumes(parts, session, onWanted);
    try {
      const named = definition.volumes.map((volume) => ({ ...volume, name: volumeName(volume, user) }));
      // In one order, so that no two sessions wait for each other.
      for (const volume of named.sort((a, b) => (a.name < b.name ? -1 : 1))) {
        const waitMs = await volumes.#take(volume);
        if (waitMs === undefined) continue;
        session.log.info({ volume: volume.name }, "another session writes the volume; waiting for it");
        await volumes.close({ decide: true });
        return waitMs;
      }
      return volumes;
    } catch (error) {
      await volumes.close({ decide: false });
      throw error;
    }
  }

  /** True where another session waits for one of them. */
  get isWanted(): boolean {
    return this.#isWanted;
  }

  /** The directories of those that it writes. */
  get writtenDirectories(): string[] {
    return this.#open.flatMap(({ keeper, directory = [] }) => (keeper === undefined ? [] : directory));
  }

  /** Makes and fills their directories. Gives how they are mounted. @param slot names the session's own directory */
  async hydrate(slot: string, user: SandboxUser, use: SlotUse, signal: AbortSignal): Promise<SandboxMount[]> {
    const { slots, store } = this.#parts;
    const mounts = this.#open.map(async (volume, index) => {
      const name = `${slot}.v${index}`;
      this.#slots.push(name);
      const source = await slots.create(name, user, use, []);
      volume.directory = source;
      volume.copy = await store.hydrate(volume.ref, volume.whole, source, { owner: user, signal });
      return { source, target: volume.definition.target, readOnly: volume.keeper === undefined };
    });
    // Where one fails, the others are over before anything is cleaned up.
    await Promise.allSettled(mounts);
    return await Promise.all(mounts);
  }

  /**
   * Commits what changed, for nobody to see yet. The sandbox has to be paused.
   *
   * @param before the generations that the session's newest commit names
   * @returns those that its next commit has to name; undefined: the same
   * @throws QuotaExceededError, OvertakenError, FencedError; errors of the store
   */
  async prepare(
    { limits }: AgentDefinition,
    before: Readonly<Record<string, number>> = {},
  ): Promise<Record<string, number> | undefined> {
    const quota = { bytes: limits.disk, files: limits.files };
    const prepared: Record<string, number> = {};
    for (const volume of this.#open) {
      const { keeper, copy, ref, whole } = volume;
      if (keeper === undefined || copy === undefined) continue;
      const signal = AbortSignal.any([keeper.signal, this.#session.keeper.signal]);
      const mirror = await copy.mirror({ quota, signal });
      if (mirror.isEmpty) continue;
      // Whose session is another's has no turn to commit.
      this.#session.keeper.assertHeld();
      keeper.assertHeld();
      const meta = this.#meta(keeper, "turn", whole, { partial: true });
      volume.partial = committed(await copy.commit(mirror, meta, keeper.signal));
      prepared[ref.volume] = volume.partial.generation;
    }
    if (Object.keys(prepared).length === 0) return undefined;
    // Of another user's volume, or of one that it only reads, an earlier activation may have left one that is still to be
    // settled.
    const isWritten = (name: string) =>
      this.#open.some(({ keeper, ref }) => keeper !== undefined && ref.volume === name);
    const others = Object.entries(before).filter(([name]) => !isWritten(name));
    return { ...Object.fromEntries(others), ...prepared };
  }

  /** Commits what stands now as whole. @throws as `prepare` */
  async settle(): Promise<void> {
    for (const volume of this.#open) {
      const { keeper, copy, partial } = volume;
      if (keeper === undefined || copy === undefined || partial === undefined) continue;
      keeper.assertHeld();
      const meta = this.#meta(keeper, "turn", volume.whole);
      volume.whole = committed(await copy.commit("unchanged", meta, keeper.signal));
      volume.partial = undefined;
    }
  }

  /**
   * Gives them back, once nothing writes them any more. What fails is logged, and left for whoever opens them next.
   *
   * @param options.decide whether all that the session committed is known
   */
  async close({ decide }: { readonly decide: boolean }): Promise<void> {
    const { leases, wakes } = this.#parts;
    const { tenant, nonce, log } = this.#session;
    for (const { keeper, copy, ref, partial } of this.#open.splice(0)) {
      copy?.close();
      if (keeper === undefined) continue;
      try {
        if (partial !== undefined) {
          if (!decide) continue;
          await this.#readWhole(ref, keeper);
        }
        for (const sessionId of await leases.release(ref, nonce)) await wakes.hurry({ sessionId, tenant });
      } catch (error) {
        log.warn({ err: error, volume: ref.volume }, "a volume's lease is left to expire");
      } finally {
        keeper.stop();
      }
    }
  }

  /** Removes their directories. To be tried again where it fails. */
  async remove(): Promise<void> {
    for (const slot of this.#slots) await this.#parts.slots.remove(slot);
    this.#slots = [];
  }

  /** How long to wait where it is another one's. */
  async #take(definition: VolumeDefinition): Promise<number | undefined> {
    const { leases, leaseMs, clock } = this.#parts;
    const { tenant, sessionId, nonce } = this.#session;
    const ref: VolumeRef = { tenant, volume: definition.name };
    if (definition.mode === "ro") return await this.#read(definition, ref);
    const takenAt = clock.monotonic();
    // Who only reads where it is taken makes nobody give way.
    const waits = definition.whenTaken === "wait" ? sessionId : undefined;
    const lease = await leases.take(ref, { nonce, waits }, leaseMs);
    if (!lease.taken && waits === undefined) return await this.#read(definition, ref);
    if (!lease.taken) return Math.min(lease.forMs, UNCALLED_MS);
    const keeper = this.#keep(ref, { nonce, epoch: lease.epoch }, takenAt);
    const volume: OpenVolume = { definition, ref, keeper, whole: undefined };
    this.#open.push(volume);
    volume.whole = await this.#readWhole(ref, keeper);
    return undefined;
  }

  async #read(definition: VolumeDefinition, ref: VolumeRef): Promise<undefined> {
    const { signal } = this.#session.keeper;
    const newest = await this.#parts.store.readNewest(ref, signal);
    const whole =
      newest?.partial === true && !(await this.#standsNow(ref, newest, signal))
        ? await this.#wholeBefore(ref, newest)
        : newest;
    this.#open.push({ definition, ref, whole });
  }

  /** Whether a turn is committed that made a partial generation. Its answer is out before the generation is settled. */
  async #standsNow(ref: VolumeRef, partial: Commit, signal: AbortSignal): Promise<boolean> {
    const { sessionId } = readVolumeNote(partial);
    const newest = await this.#parts.store.readNewest({ tenant: ref.tenant, sessionId }, signal);
    return names(newest, ref, partial);
  }

  #keep(ref: VolumeRef, lease: Lease, takenAt: number): LeaseKeeper {
    const { leases, leaseMs: ttlMs, clock } = this.#parts;
    const { sessionId, keeper: session } = this.#session;
    const state = {
      renewLease: async (_: string, { nonce }: Lease) => {
        if ((await leases.renew(ref, nonce, ttlMs)) === 0 || this.#isWanted) return;
        this.#isWanted = true;
        this.#onWanted();
      },
      raiseEpoch: async (_: string, { nonce }: Lease, epoch: number) => {
        const { taken } = await leases.take(ref, { nonce }, ttlMs, epoch);
        if (!taken) throw new FencedError("raise the epoch of a volume");
      },
    };
    const keeper = new LeaseKeeper({ state, sessionId, lease, ttlMs, takenAt, clock });
    keeper.signal.addEventListener("abort", () => {
      const { operation } = keeper.signal.reason as FencedError;
      session.lose(`the volume ${ref.volume}: ${operation}`);
    });
    return keeper;
  }

  /** The newest generation that stands, after what an earlier writer left is decided. */
  async #readWhole(ref: VolumeRef, keeper: LeaseKeeper): Promise<Commit | undefined> {
    const { store } = this.#parts;
    const { signal } = keeper;
    const newest = await store.readNewest(ref, signal);
    if (newest === undefined) return undefined;
    const { epoch, nonce } = keeper.lease;
    // Its own may have its own epoch; Redis may have come back with older data all the same.
    if (newest.epoch > epoch || (newest.epoch === epoch && newest.nonce !== nonce))
      await keeper.raiseEpoch(newest.epoch + 1);
    if (!newest.partial) return newest;
    const stands = await this.#stands(ref, newest, signal);
    this.#session.log.info(
      { volume: ref.volume, generation: newest.generation, stands },
      "deciding what an earlier turn left in a volume",
    );
    const whole = stands ? newest : await this.#wholeBefore(ref, newest);
    const meta = this.#meta(keeper, stands ? "takeover" : "rollback", whole);
    return committed(
      stands
        ? await store.commitUnchanged(ref, newest, meta, signal)
        : await store.rollback(ref, newest, whole, meta, signal),
    );
  }

  async #wholeBefore(ref: VolumeRef, partial: Commit): Promise<Commit | undefined> {
    const { wholeGeneration } = readVolumeNote(partial);
    if (wholeGeneration === 0) return undefined;
    return await this.#parts.store.readCommit(ref, wholeGeneration, this.#session.keeper.signal);
  }

  /** Whether the session whose turn a partial generation is of has committed that turn; from now on it won't. */
  async #stands(ref: VolumeRef, partial: Commit, signal: AbortSignal): Promise<boolean> {
    const { store } = this.#parts;
    const writer = readVolumeNote(partial);
    const session = { tenant: ref.tenant, sessionId: writer.sessionId };
    // Its own past is known: this activation has begun with a takeover record where that was needed.
    const isOwn = writer.sessionId === this.#session.sessionId;
    let newest = await store.readNewest(session, signal);
    for (let attempt = 1; ; attempt++) {
      if (names(newest, ref, partial)) return true;
      if (isOwn || (newest !== undefined && newest.epoch > writer.epoch)) return false;
      const result = await this.#takeOver(session, newest, writer, signal);
      if (result.outcome === "committed") return false;
      newest = result.commit;
      if (attempt === TAKEOVER_ATTEMPTS) throw new OvertakenError(newest.generation);
    }
  }

  /** Ends what the last activation of another session may still commit. The session's next one undoes its turn, or adopts it. */
  async #takeOver(
    session: { readonly tenant: string; readonly sessionId: string },
    newest: Commit | undefined,
    writer: VolumeNote,
    signal: AbortSignal,
  ) {
    const { store, state, worker } = this.#parts;
    const parent = readNote(newest);
    const { partial = false, generation = 0 } = newest ?? {};
    const published =
      newest === undefined || parent === undefined ? [] : publishedReplies(newest, parent, session);
    const waiting = await readUndelivered(state, session.sessionId);
    const undelivered = [
      ...waiting,
      ...published.filter(({ id }) => !waiting.some((other) => other.id === id)),
    ];
    const note = nextNote(parent, {
      ...{ agent: parent?.agent ?? writer.agent, undelivered, generation: generation + 1 },
      ...(parent?.publishedBy === undefined ? {} : { publishedBy: parent.publishedBy }),
      ...(parent?.wholeGeneration === undefined || !partial
        ? {}
        : { wholeGeneration: parent.wholeGeneration }),
    });
    const meta = { epoch: writer.epoch, nonce: this.#session.nonce, worker };
    return await store.commitUnchanged(session, newest, { ...meta, kind: "takeover", partial, note }, signal);
  }

  #meta(
    keeper: LeaseKeeper,
    kind: CommitKind,
    whole: Commit | undefined,
    { partial = false } = {},
  ): CommitMeta {
    const { sessionId, agent, keeper: session } = this.#session;
    const note: VolumeNote = {
      ...{ sessionId, agent, epoch: session.lease.epoch },
      wholeGeneration: whole?.generation ?? 0,
    };
    return { ...keeper.lease, worker: this.#parts.worker, kind, partial, note };
  }
}

/** Whether a session's generation says that one of a volume stands. */
function names(commit: Commit | undefined, { volume }: VolumeRef, { generation }: Commit): boolean {
  return readNote(commit)?.volumes?.[volume] === generation;
}

function readVolumeNote(commit: Commit): VolumeNote {
  const parsed = volumeNoteSchema.safeParse(commit.note);
  if (!parsed.success) throw new CommitNoteUnreadableError(commit.generation);
  return parsed.data;
}

/** @throws OvertakenError where another generation is there */
function committed(result: Awaited<ReturnType<SessionStore["commitUnchanged"]>>): Commit {
  if (result.outcome === "overtaken") throw new OvertakenError(result.commit.generation);
  return result.commit;
}
