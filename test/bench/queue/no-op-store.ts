import { randomBytes } from "node:crypto";
import type { Commit, CommitMeta, CommitResult, SessionRef, SessionStore } from "@longshore/session-store";

/** A mirror that found nothing. */
const EMPTY = {
  ...{ base: undefined, changed: 0, removed: 0, isEmpty: true, entries: 0, totalBytes: 0, newBytes: 0 },
  ...{ leftOut: [], leftOutCount: 0 },
} as const;

/**
 * A store of sessions that have no files: it keeps the newest commit of each in memory, and does no more of what a
 * store does. As the activation sees one; the class itself has private state, so the types can't tell.
 */
export function noOpStore(): SessionStore {
  const newest = new Map<string, Commit>();
  const commit = async (ref: SessionRef, meta: CommitMeta): Promise<CommitResult> => {
    const base = newest.get(ref.sessionId);
    const made: Commit = {
      ...{ epoch: meta.epoch, nonce: meta.nonce, worker: meta.worker, kind: meta.kind, note: meta.note },
      partial: meta.partial === true,
      generation: (base?.generation ?? 0) + 1,
      parent: base?.generation ?? 0,
      id: randomBytes(16).toString("hex"),
      time: new Date().toISOString(),
      ...{ entries: 0, totalBytes: 0, chain: { deltas: [] }, delta: undefined, inline: Buffer.alloc(0) },
    };
    newest.set(ref.sessionId, made);
    return { outcome: "committed", commit: made };
  };
  const store = {
    readNewest: async (ref: SessionRef) => newest.get(ref.sessionId),
    commitUnchanged: (ref: SessionRef, _base: Commit | undefined, meta: CommitMeta) => commit(ref, meta),
    hydrate: async (ref: SessionRef, base: Commit | undefined) => {
      const copy = {
        base,
        restore: async (to: Commit) => {
          copy.base = to;
        },
        mirror: async () => EMPTY,
        commit: async (_mirror: unknown, meta: CommitMeta) => {
          const result = await commit(ref, meta);
          copy.base = result.commit;
          return result;
        },
        close: () => undefined,
      };
      return copy;
    },
  };
  return store as unknown as SessionStore;
}
