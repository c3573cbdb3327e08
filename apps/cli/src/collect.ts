import { type CollectReport, type Commit, collectSessions, collectVolumes } from "@longshore/session-store";
import { connectRedis, LongshoreError, readEnvironment, retentionOf, StoredBytes } from "@longshore/shared";
import { type CommandContext, type GlobalOptions, openStatusLine } from "./command-context.ts";
import { openConfiguredStore, type TenantOptions, tenantsOf } from "./configured-store.ts";
import { CollectError } from "./errors.ts";
import { columns } from "./output.ts";
import { ProgressBar, showBytes } from "./progress-bar.ts";

export interface CollectOptions extends GlobalOptions, TenantOptions {
  readonly dryRun?: boolean;
}

/** How long the command waits for Redis, which it does not need, in ms. */
const REDIS_TIMEOUT_MS = 5_000;

interface Collected {
  readonly tenant: string;
  readonly report?: CollectReport;
  readonly error?: { readonly code: string; readonly message: string };
}

/**
 * `longshore gc`: collects the garbage of all sessions and volumes, directly at the object store, by the configuration's retention.
 * What is superfluous is marked by one run and deleted by a later one, a day after at the earliest.
 *
 * @throws UsageError for an unknown tenant; CollectError where some sessions failed, after all were looked at
 */
export async function collectGarbage(context: CommandContext, options: CollectOptions): Promise<void> {
  const { signal, output } = context;
  const { configuration, store } = openConfiguredStore(context);
  const dryRun = options.dryRun === true;
  const sessions: (Collected & { readonly sessionId: string })[] = [];
  const volumes: (Collected & { readonly volume: string })[] = [];
  try {
    using bar = new ProgressBar(openStatusLine(context), "listing sessions");
    for (const tenant of tenantsOf(configuration, options)) {
      const collecting = {
        retentionOf: (newest: Commit | undefined) => retentionOf(configuration, tenant, newest?.note),
        dryRun,
        signal,
      };
      for await (const { sessionId, ...what } of collectSessions(store, tenant, collecting)) {
        sessions.push({ tenant, sessionId, ...toldOf(what) });
        bar.show(`${sessions.length} sessions of ${tenant}`);
      }
      for await (const { volume, ...what } of collectVolumes(store, tenant, collecting))
        volumes.push({ tenant, volume, ...toldOf(what) });
    }
  } finally {
    await store.close();
  }
  output.result({ dryRun, sessions, volumes }, () =>
    columns([
      ...sessions.map((session) => rowOf(session.sessionId, session, dryRun)),
      ...volumes.map((volume) => rowOf(`volume ${volume.volume}`, volume, dryRun)),
    ]),
  );
  if (!dryRun) await tellStored(context, tenantsOf(configuration, options), [...sessions, ...volumes]);
  const failed = [...sessions, ...volumes].filter(({ error }) => error !== undefined).length;
  if (failed > 0) throw new CollectError(failed);
}

/** So that a tenant who had as much as it may can go on at once; else the dispatchers' next collection says it. */
async function tellStored(
  { environment, output }: CommandContext,
  tenants: readonly string[],
  collected: readonly Collected[],
): Promise<void> {
  const { REDIS_URL } = readEnvironment(environment);
  const redis = connectRedis(REDIS_URL, { commandTimeoutMs: REDIS_TIMEOUT_MS, onError: () => undefined });
  try {
    const stored = new StoredBytes(redis, () => undefined);
    for (const tenant of tenants) {
      const reports = collected.filter((one) => one.tenant === tenant).map(({ report }) => report);
      if (reports.every((report) => report !== undefined))
        await stored.set(
          tenant,
          reports.reduce((bytes, { neededBytes }) => bytes + neededBytes, 0),
        );
    }
  } catch (error) {
    output.note(`longshore: what tenants store is not counted anew: ${(error as Error).message}\n`);
  } finally {
    redis.disconnect();
  }
}

function rowOf(name: string, { tenant, report, error }: Collected, dryRun: boolean): string[] {
  if (report === undefined) return [tenant, name, `failed: ${error?.message} [${error?.code}]`];
  return [
    tenant,
    name,
    `${report.generations} generations`,
    `${report.marked.objects} marked (${showBytes(report.marked.bytes)})`,
    `${report.deleted.objects} ${dryRun ? "to be deleted" : "deleted"} (${showBytes(report.deleted.bytes)})`,
  ];
}

function toldOf(what: { readonly report: CollectReport } | { readonly error: unknown }) {
  return "error" in what ? { error: errorOf(what.error) } : what;
}

function errorOf(error: unknown): { readonly code: string; readonly message: string } {
  const message = error instanceof Error ? error.message : String(error);
  return { code: error instanceof LongshoreError ? error.code : "INTERNAL_ERROR", message };
}
