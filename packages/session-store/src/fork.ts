import { type CommitResult, findNewest, readNewestCommit } from "./commit-log.ts";
import { CommitUnsettledError } from "./errors.ts";
import type { Commit, CommitMeta, ForkOrigin } from "./format/commit.ts";
import { FileTable } from "./format/file-table.ts";
import { type Frame, type FrameSource, sourceName, type TableEntry } from "./format/table-entry.ts";
import { sourcesOf } from "./gc/newly-referenced.ts";
import { putPin } from "./gc/pins.ts";
import { directoryPrefix, ownerOfSource, type SessionRef, sourceKey } from "./keys.ts";
import { publishDelta } from "./publish-delta.ts";
import type { StoreContext } from "./store-context.ts";

/**
 * Begins a session with the files of a generation of another one of the tenant; no content moves.
 *
 * The first generation of the fork names the other session's objects. A pin there, put before anything else, keeps those;
 * then it is looked whether a collector has marked any of them, which it would have done without having seen the pin; then
 * the fork is committed. A fork of a fork names the objects of both, and pins them at both.
 *
 * A crash in between leaves a pin without a fork, which collectors remove when it is old enough.
 *
 * @param commit a generation of `source`, as read from the store
 * @param table of that
 * @returns `overtaken` with the newest generation of `target` when it has any
 * @throws GenerationNotFoundError when that generation is beyond its retention, although its record may still be there;
 *   CommitUnsettledError
 */
export async function fork(
  context: StoreContext,
  source: SessionRef,
  commit: Commit,
  table: FileTable,
  target: SessionRef,
  meta: CommitMeta,
  signal: AbortSignal | undefined,
): Promise<CommitResult> {
  const absent = await findNewest(context, target, signal);
  const newest = absent.generation === 0 ? undefined : await readNewestCommit(context, target, signal);
  if (newest !== undefined) return { outcome: "overtaken", commit: newest };
  const set = foreignEntries(table, source.sessionId);
  const sources = [...sourcesOf(set).values()];
  const pins = await putPins(context, target, sources, signal);
  try {
    const { result } = await publishDelta(
      context,
      target,
      { absentMs: absent.storeTimeMs },
      { table: new FileTable(), sinceFull: new Set() },
      {
        delta: { set, removed: [] },
        inline: Buffer.alloc(0),
        packs: 0,
        from: { ref: source, generation: commit.generation },
        origins: originsOf(source, commit, sources),
        pins,
      },
      meta,
      signal,
    );
    if (result.outcome === "overtaken") await removePins(context, pins);
    return result;
  } catch (error) {
    // It may have become visible all the same, and then needs them.
    if (!(error instanceof CommitUnsettledError)) await removePins(context, pins);
    throw error;
  }
}

/** A table's entries as another session names them. Chunks that share a frame go on sharing it. */
function foreignEntries(table: FileTable, sessionId: string): TableEntry[] {
  const frames = new Map<Frame, Frame>();
  const sources = new Map<string, FrameSource>();
  const foreign = (frame: Frame): Frame => {
    const known = frames.get(frame);
    if (known !== undefined) return known;
    const name = sourceName(frame.source);
    const source = sources.get(name) ?? { session: sessionId, ...frame.source };
    sources.set(name, source);
    const made = { ...frame, source };
    frames.set(frame, made);
    return made;
  };
  return [...table.entries()].map((entry) => {
    if (entry.type !== "file") return entry;
    return { ...entry, chunks: entry.chunks.map((chunk) => ({ ...chunk, frame: foreign(chunk.frame) })) };
  });
}

/** The generation itself, and those that it comes from and still names. */
function originsOf(source: SessionRef, commit: Commit, sources: readonly FrameSource[]): ForkOrigin[] {
  const named = new Set(sources.map(({ session }) => session));
  const own = { sessionId: source.sessionId, generation: commit.generation };
  return [own, ...(commit.origins ?? [])].filter(({ sessionId }) => named.has(sessionId));
}

/** Pins at each session whose objects are named. @returns their keys */
async function putPins(
  context: StoreContext,
  target: SessionRef,
  sources: readonly FrameSource[],
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const keysBySession = new Map<string, string[]>();
  for (const source of sources) {
    const { session = target.sessionId } = source;
    const prefix = directoryPrefix(ownerOfSource(target, source));
    const keys = keysBySession.get(session) ?? [];
    keys.push(sourceKey(target, source).slice(prefix.length));
    keysBySession.set(session, keys);
  }
  const pins: string[] = [];
  for (const [sessionId, keys] of keysBySession)
    pins.push(await putPin(context, { tenant: target.tenant, sessionId }, target, keys, signal));
  return pins;
}

/** Nobody can be using them: without them the fork would be taken back. */
async function removePins(context: StoreContext, pins: readonly string[]): Promise<void> {
  try {
    await context.backend.delete(pins);
  } catch {
    // A collector removes them when they are old enough; what went wrong before is what the caller has to know.
  }
}
