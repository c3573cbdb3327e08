import type { SandboxLabels } from "../sandbox.ts";

const PREFIX = "longshore.";
/** Tells two fleets apart that share a host and an engine: each has a run directory of its own. */
const RUN_DIRECTORY = `${PREFIX}run-directory`;

/** The labels of a container. */
export function containerLabels(labels: SandboxLabels, runDirectory: string): Record<string, string> {
  return {
    [`${PREFIX}host`]: labels.host,
    [`${PREFIX}worker`]: labels.worker,
    [`${PREFIX}tenant`]: labels.tenant,
    [`${PREFIX}session`]: labels.sessionId,
    [`${PREFIX}epoch`]: String(labels.epoch),
    [`${PREFIX}nonce`]: labels.nonce,
    [RUN_DIRECTORY]: runDirectory,
    ...(labels.definition === undefined ? {} : { [`${PREFIX}definition`]: labels.definition }),
  };
}

/** The engine's filter that selects the containers of one host and run directory. */
export function labelFilter(host: string, runDirectory: string): string[] {
  return [`${PREFIX}host=${host}`, `${RUN_DIRECTORY}=${runDirectory}`];
}

/** The labels back from a container; undefined where one is missing, as on a container that is not ours. */
export function labelsOfContainer(labels: Readonly<Record<string, string>>): SandboxLabels | undefined {
  const host = labels[`${PREFIX}host`];
  const worker = labels[`${PREFIX}worker`];
  const tenant = labels[`${PREFIX}tenant`];
  const sessionId = labels[`${PREFIX}session`];
  const epoch = Number(labels[`${PREFIX}epoch`] ?? Number.NaN);
  const nonce = labels[`${PREFIX}nonce`];
  if (host === undefined || worker === undefined || nonce === undefined) return undefined;
  if (tenant === undefined || sessionId === undefined || !Number.isSafeInteger(epoch)) return undefined;
  const definition = labels[`${PREFIX}definition`];
  return {
    host,
    worker,
    tenant,
    sessionId,
    epoch,
    nonce,
    ...(definition === undefined ? {} : { definition }),
  };
}
