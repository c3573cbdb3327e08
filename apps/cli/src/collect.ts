import { type CollectReport, collectSessions, openBackend, SessionStore } from "@longshore/session-store";
import {
  commitNoteSchema,
  LongshoreError,
  loadConfiguration,
  longestActivationMs,
  readEnvironment,
  retentionOf,
} from "@longshore/shared";
import { type CommandContext, type GlobalOptions, openStatusLine } from "./command-context.ts";
import { CollectError, UsageError } from "./errors.ts";
import { columns } from "./output.ts";
import { ProgressBar, showBytes } from "./progress-bar.ts";

export interface CollectOptions extends GlobalOptions {
  readonly dryRun?: boolean;
  readonly tenant?: string;
}

interface Collected {
  readonly tenant: string;
  readonly sessionId: string;
  readonly report?: CollectReport;
  readonly error?: { readonly code: string; readonly message: string };
}

/**
 * `longshore gc`: collects the garbage of all sessions, directly at the object store, by the configuration's retention.
 * What is superfluous is marked by one run and deleted by a later one, a day after at the earliest.
 *
 * @throws UsageError for an unknown tenant; CollectError where some sessions failed, after all were looked at
 */
export async function collectGarbage(context: CommandContext, options: CollectOptions): Promise<void> {
  const { environment: variables, clock, signal, output } = context;
  const environment = readEnvironment(variables);
  const { configuration } = loadConfiguration(environment.LONGSHORE_CONFIG, variables);
  const tenants = Object.keys(configuration.tenants);
  if (options.tenant !== undefined && !tenants.includes(options.tenant))
    throw new UsageError(`--tenant: one of ${tenants.join(", ")}`);
  const backend = openBackend(environment.OBJECT_STORE_URL, {
    ...(environment.S3_ENDPOINT === undefined ? {} : { endpoint: environment.S3_ENDPOINT }),
    forcePathStyle: environment.S3_FORCE_PATH_STYLE,
    region: environment.AWS_REGION,
  });
  const store = new SessionStore({ backend, clock, longestActivationMs: longestActivationMs(configuration) });
  const dryRun = options.dryRun === true;
  const all: Collected[] = [];
  try {
    using bar = new ProgressBar(openStatusLine(context), "listing sessions");
    for (const tenant of options.tenant === undefined ? tenants : [options.tenant]) {
      const sessions = collectSessions(store, tenant, {
        retentionOf: (newest) =>
          retentionOf(configuration, tenant, commitNoteSchema.safeParse(newest?.note).data?.agent),
        dryRun,
        signal,
      });
      for await (const session of sessions) {
        const { sessionId } = session;
        all.push({
          tenant,
          sessionId,
          ...("error" in session ? { error: errorOf(session.error) } : session),
        });
        bar.show(`${all.length} sessions of ${tenant}`);
      }
    }
  } finally {
    await store.close();
  }
  output.result({ dryRun, sessions: all }, () => describe(all, dryRun));
  const failed = all.filter(({ error }) => error !== undefined).length;
  if (failed > 0) throw new CollectError(failed);
}

function describe(all: readonly Collected[], dryRun: boolean): string {
  const rows = all.map(({ tenant, sessionId, report, error }) =>
    report === undefined
      ? [tenant, sessionId, `failed: ${error?.message} [${error?.code}]`]
      : [
          tenant,
          sessionId,
          `${report.generations} generations`,
          `${report.marked.objects} marked (${showBytes(report.marked.bytes)})`,
          `${report.deleted.objects} ${dryRun ? "to be deleted" : "deleted"} (${showBytes(report.deleted.bytes)})`,
        ],
  );
  return columns(rows);
}

function errorOf(error: unknown): { readonly code: string; readonly message: string } {
  const message = error instanceof Error ? error.message : String(error);
  return { code: error instanceof LongshoreError ? error.code : "INTERNAL_ERROR", message };
}
