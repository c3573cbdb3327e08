import type { Commit } from "../format/commit.ts";
import type { DirectoryRef } from "../keys.ts";
import type { SessionStore } from "../session-store.ts";
import type { CollectReport } from "./collect.ts";
import type { Retention } from "./retained.ts";

export interface CollectAllOptions {
  /** What is kept of a session or volume, by its newest generation; undefined: it has none. */
  readonly retentionOf: (newest: Commit | undefined) => Retention;
  /** Only tell what would be done. @default false */
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** What became of one of them: a report, or why there is none. */
type Collected = { readonly report: CollectReport } | { readonly error: unknown };
export type CollectedSession = { readonly sessionId: string } & Collected;
export type CollectedVolume = { readonly volume: string } & Collected;

type List = (after: string | undefined) => Promise<string[]>;

/**
 * Collects the garbage of all sessions of a tenant, one after the other. One that fails is told and the next is begun.
 *
 * @throws what listing the sessions throws; the signal's reason
 */
export async function* collectSessions(
  store: SessionStore,
  tenant: string,
  options: CollectAllOptions,
): AsyncGenerator<CollectedSession, void> {
  const list: List = (after) => store.listSessions(tenant, { after }, options.signal);
  for await (const sessionId of all(list))
    yield { sessionId, ...(await collect(store, { tenant, sessionId }, options)) };
}

/** As `collectSessions`, of a tenant's volumes. */
export async function* collectVolumes(
  store: SessionStore,
  tenant: string,
  options: CollectAllOptions,
): AsyncGenerator<CollectedVolume, void> {
  const list: List = (after) => store.listVolumes(tenant, { after }, options.signal);
  for await (const volume of all(list))
    yield { volume, ...(await collect(store, { tenant, volume }, options)) };
}

async function* all(list: List): AsyncGenerator<string, void> {
  for (let page = await list(undefined); page.length > 0; page = await list(page.at(-1))) yield* page;
}

async function collect(
  store: SessionStore,
  ref: DirectoryRef,
  { retentionOf, dryRun = false, signal }: CollectAllOptions,
): Promise<Collected> {
  try {
    const retention = retentionOf(await store.readNewest(ref, signal));
    return { report: await store.collect(ref, { retention, dryRun, signal }) };
  } catch (error) {
    signal?.throwIfAborted();
    return { error };
  }
}
