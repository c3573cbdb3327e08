import { openBackend, SessionStore } from "@longshore/session-store";
import {
  type Configuration,
  loadConfiguration,
  longestActivationMs,
  readEnvironment,
} from "@longshore/shared";
import type { CommandContext } from "./command-context.ts";
import { UsageError } from "./errors.ts";

export interface TenantOptions {
  readonly tenant?: string;
}

/** The object store and the configuration of the fleet, as the environment names them. The caller closes the store. */
export function openConfiguredStore({ environment: variables, clock }: CommandContext): {
  readonly configuration: Configuration;
  readonly store: SessionStore;
} {
  const environment = readEnvironment(variables);
  const { configuration } = loadConfiguration(environment.LONGSHORE_CONFIG, variables);
  const backend = openBackend(environment.OBJECT_STORE_URL, {
    ...(environment.S3_ENDPOINT === undefined ? {} : { endpoint: environment.S3_ENDPOINT }),
    forcePathStyle: environment.S3_FORCE_PATH_STYLE,
    region: environment.AWS_REGION,
  });
  return {
    configuration,
    store: new SessionStore({ backend, clock, longestActivationMs: longestActivationMs(configuration) }),
  };
}

/** The tenants that a command is for: the one that is named, or all. @throws UsageError for one that there is not */
export function tenantsOf({ tenants }: Configuration, { tenant }: TenantOptions): string[] {
  const names = Object.keys(tenants);
  if (tenant !== undefined && !names.includes(tenant))
    throw new UsageError(`--tenant: one of ${names.join(", ")}`);
  return tenant === undefined ? names : [tenant];
}
