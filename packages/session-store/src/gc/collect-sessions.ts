import type { Commit } from "../format/commit.ts";
import type { SessionStore } from "../session-store.ts";
import type { CollectReport } from "./collect.ts";
import type { Retention } from "./retained.ts";

export interface CollectSessionsOptions {
  /** What is kept of a session, by its newest generation; undefined: it has none. */
  readonly retentionOf: (newest: Commit | undefined) => Retention;
  /** Only tell what would be done. @default false */
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** What became of one session: a report, or why there is none. */
export type CollectedSession =
  | { readonly sessionId: string; readonly report: CollectReport }
  | { readonly sessionId: string; readonly error: unknown };

/**
 * Collects the garbage of all sessions of a tenant, one after the other. One that fails is told and the next is begun.
 *
 * @throws what listing the sessions throws; the signal's reason
 */
export async function* collectSessions(
  store: SessionStore,
  tenant: string,
  { retentionOf, dryRun = false, signal }: CollectSessionsOptions,
): AsyncGenerator<CollectedSession, void> {
  let after: string | undefined;
  for (;;) {
    const sessions = await store.listSessions(tenant, after === undefined ? {} : { after }, signal);
    for (const sessionId of sessions) {
      const ref = { tenant, sessionId };
      try {
        const retention = retentionOf(await store.readNewest(ref, signal));
        yield { sessionId, report: await store.collect(ref, { retention, dryRun, signal }) };
      } catch (error) {
        signal?.throwIfAborted();
        yield { sessionId, error };
      }
    }
    after = sessions.at(-1);
    if (after === undefined) return;
  }
}
