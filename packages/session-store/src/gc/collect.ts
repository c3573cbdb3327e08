import { randomBytes } from "node:crypto";
import type { ListedObject } from "../backend/backend.ts";
import { putContent } from "../backend/put-content.ts";
import { GenerationNotFoundError, ObjectNotFoundError } from "../errors.ts";
import { INBOUND_KEPT_MS } from "../inbound.ts";
import { type DirectoryRef, directoryPrefix, generationOfLogKey, markKey } from "../keys.ts";
import type { StoreContext } from "../store-context.ts";
import { listAll } from "../store-listing.ts";
import { encodeMarks, type Marks, readMarks } from "./marks.ts";
import { pinState, readPin } from "./pins.ts";
import { Reachable } from "./reachable.ts";
import { expiredLogs, type Retention, retainedGenerations } from "./retained.ts";

export interface CollectOptions {
  readonly retention: Retention;
  /** Only tell what would be done. @default false */
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Objects and what they take. */
export interface ObjectCount {
  readonly objects: number;
  readonly bytes: number;
}

export interface CollectReport {
  /** How many generations are kept. */
  readonly generations: number;
  /** What is superfluous and waits to be deleted by a later run. */
  readonly marked: ObjectCount;
  readonly deleted: ObjectCount;
  /** What is neither, in bytes. */
  readonly neededBytes: number;
}

/** Marks that one run adds at most; what is left over is marked by the next. */
const ADDED_MAX = 100_000;

/** How often a run begins anew because another has meanwhile deleted what it had listed. */
const ATTEMPTS_MAX = 3;

/** The store's times are cut to the second, so something may be up to a second younger than it seems. */
const CLOCK_STEP_MS = 1000;

/**
 * Deletes what no kept generation of a directory needs: safe beside commits, rollbacks, forks and other collectors, and
 * wherever it is interrupted.
 *
 * An object of the log, the tables or the packs is, one after the other,
 *
 * - `young`: not older than the longest activation lives. Whoever stored it may be about to commit it.
 * - `reachable`: from a kept generation, or pinned by a fork.
 * - `marked`: neither, as this or an earlier run saw and wrote into a mark object. From then on nobody refers to it anew
 *   (see `newly-referenced.ts`), and whoever is still restoring from it can finish. A marked object that is reachable after
 *   all, because its mark crossed a commit that had looked before, loses its mark. Not for the sake of a pin that is still
 *   pending: whoever put that is about to see the mark and take the pin back.
 * - deleted: marked for as long as the longest activation lives by the clock of the store, and still not reachable.
 *
 * The order of writing makes that so after a crash, too: the new mark object is there before anything is deleted, and the
 * older ones, which it has merged, go last. The generations that are given up are said with it: they do not come back
 * when somebody raises the retention.
 *
 * Anything that can't be read ends the run before it deletes. What is gone may have been deleted by another collector since
 * this one listed it, so that is looked at anew first.
 */
export async function collect(
  context: StoreContext,
  ref: DirectoryRef,
  options: CollectOptions,
): Promise<CollectReport> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await collectOnce(context, ref, options);
    } catch (error) {
      const isGone = error instanceof GenerationNotFoundError || error instanceof ObjectNotFoundError;
      if (!isGone || attempt === ATTEMPTS_MAX) throw error;
    }
  }
}

async function collectOnce(
  context: StoreContext,
  ref: DirectoryRef,
  options: CollectOptions,
): Promise<CollectReport> {
  const { signal, dryRun = false } = options;
  const marks = await readMarks(context, ref, signal);
  const listed = await listDirectory(context, ref, signal);
  const kept = await findReachable(context, ref, options, listed, marks);
  const plan = planCollection(context, ref, listed, marks, kept, options.retention);
  if (!dryRun) await carryOut(context, ref, listed, marks, kept.floor, plan, signal);
  const deleted = plan.deleted.reduce((bytes, object) => bytes + object.sizeBytes, 0);
  return {
    generations: kept.generations,
    marked: { objects: plan.added.length + plan.waiting.size, bytes: plan.markedBytes },
    deleted: { objects: plan.deleted.length, bytes: deleted },
    neededBytes: listed.bytes - plan.markedBytes - deleted,
  };
}

interface ListedDirectory {
  /** When the store began to answer: everything that is compared with it was made earlier. */
  readonly nowMs: number;
  readonly log: readonly ListedObject[];
  readonly content: readonly ListedObject[];
  readonly inbound: readonly ListedObject[];
  readonly pins: readonly ListedObject[];
  /** Logs of turns, newest first. */
  readonly turns: readonly ListedObject[];
  /** All that is there, and what collectors noted. */
  readonly bytes: number;
}

async function listDirectory(
  context: StoreContext,
  ref: DirectoryRef,
  signal: AbortSignal | undefined,
): Promise<ListedDirectory> {
  const prefix = directoryPrefix(ref);
  const families: Record<string, ListedObject[]> = {
    ...{ log: [], pack: [], table: [], inbound: [], pins: [], turns: [] },
  };
  let nowMs: number | undefined;
  let bytes = 0;
  for await (const page of listAll(context, prefix, signal)) {
    nowMs ??= page.storeTimeMs;
    for (const object of page.objects) {
      families[object.key.slice(prefix.length, object.key.indexOf("/", prefix.length))]?.push(object);
      bytes += object.sizeBytes;
    }
  }
  const { log = [], pack = [], table = [], inbound = [], pins = [], turns = [] } = families;
  return { nowMs: nowMs ?? 0, log, content: [...pack, ...table], inbound, pins, turns, bytes };
}

interface Kept {
  readonly generations: number;
  /** The lowest of them, or what an earlier run said. */
  readonly floor: number;
  /** From kept generations and for forks that exist. */
  readonly firmly: Reachable;
  /** For forks that may be being made. */
  readonly perhaps: Reachable;
  readonly releasedPins: readonly ListedObject[];
}

async function findReachable(
  context: StoreContext,
  ref: DirectoryRef,
  { retention, signal }: CollectOptions,
  { log, pins, nowMs }: ListedDirectory,
  { floor }: Marks,
): Promise<Kept> {
  const listed = log.map(({ key, modifiedMs }) => ({ generation: generationOfLogKey(key), modifiedMs }));
  const youngMs = context.longestActivationMs + CLOCK_STEP_MS;
  const firmly = new Reachable(context, ref, signal);
  const generations = retainedGenerations(listed, retention, { nowMs, youngMs, floor });
  const whole = await firmly.addGenerations(generations);
  // A turn that is tried again begins with the newest whole generation, however many checkpoints are above it.
  for (let next = listed[generations.length]; whole.length === 0 && next !== undefined; ) {
    if (next.generation !== (generations.at(-1) ?? 0) - 1 || next.generation < floor) break;
    whole.push(...(await firmly.addGenerations([next.generation])));
    generations.push(next.generation);
    next = listed[generations.length];
  }
  const perhaps = new Reachable(context, ref, signal);
  const releasedPins: ListedObject[] = [];
  for (const pin of pins) {
    const isYoung = nowMs - pin.modifiedMs < youngMs;
    const state = await pinState(context, ref, pin.key, isYoung, signal);
    if (state === "released") releasedPins.push(pin);
    else {
      for (const key of await readPin(context, pin.key, signal))
        (state === "held" ? firmly : perhaps).addKey(key);
    }
  }
  return {
    generations: generations.length,
    floor: Math.max(floor, generations.at(-1) ?? 0),
    firmly,
    perhaps,
    releasedPins,
  };
}

interface CollectionPlan {
  /** Keys, below the prefix, to be marked. */
  readonly added: readonly string[];
  /** Keys, below the prefix, that stay marked, and since when. */
  readonly waiting: ReadonlyMap<string, number>;
  readonly markedBytes: number;
  readonly deleted: readonly ListedObject[];
}

function planCollection(
  context: StoreContext,
  ref: DirectoryRef,
  { log, content, inbound, turns, nowMs }: ListedDirectory,
  marks: Marks,
  { firmly, perhaps, releasedPins }: Kept,
  retention: Retention,
): CollectionPlan {
  const prefix = directoryPrefix(ref);
  const ripeMs = context.longestActivationMs + CLOCK_STEP_MS;
  const added: string[] = [];
  const waiting = new Map<string, number>();
  const deleted: ListedObject[] = [...releasedPins, ...expiredLogs(turns, retention, nowMs)];
  let markedBytes = 0;
  for (const object of [...log, ...content]) {
    const key = object.key.slice(prefix.length);
    if (firmly.has(object.key) || nowMs - object.modifiedMs < ripeMs) continue;
    const markedMs = marks.keys.get(key);
    const isPending = perhaps.has(object.key);
    if (markedMs !== undefined && nowMs - markedMs >= ripeMs && !isPending) {
      deleted.push(object);
      continue;
    }
    if (markedMs !== undefined) waiting.set(key, markedMs);
    else if (!isPending && added.length < ADDED_MAX) added.push(key);
    else continue;
    markedBytes += object.sizeBytes;
  }
  for (const object of inbound)
    if (nowMs - object.modifiedMs >= ripeMs + INBOUND_KEPT_MS) deleted.push(object);
  return { added, waiting, markedBytes, deleted };
}

async function carryOut(
  context: StoreContext,
  ref: DirectoryRef,
  { nowMs }: ListedDirectory,
  marks: Marks,
  floor: number,
  { added, waiting, deleted }: CollectionPlan,
  signal: AbortSignal | undefined,
): Promise<void> {
  const isSame = added.length === 0 && waiting.size === marks.keys.size && floor === marks.floor;
  const rewritten = !isSame || marks.objects.length > 1;
  const options = signal === undefined ? {} : { signal };
  if (rewritten) {
    const key = markKey(ref, nowMs, randomBytes(8).toString("hex"));
    await putContent(
      context.backend,
      key,
      encodeMarks({ floor, added, kept: waiting }),
      context.random,
      options,
    );
  }
  await context.backend.delete(
    deleted.map((object) => object.key),
    options,
  );
  if (rewritten) await context.backend.delete(marks.objects, options);
}
