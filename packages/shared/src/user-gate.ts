import type { Configuration } from "./configuration-schema.ts";
import { hashId } from "./session-id.ts";

/** The gate of all of a tenant's turns. */
export const TENANT_GATE = "turns";

/** What a user of an agent is named by in gates and quotas: a sender as its channel says, and its agent. */
export function userOf({
  agent,
  channel,
  sender,
}: {
  readonly agent: string;
  readonly channel: string;
  readonly sender: { readonly id: string };
}): string {
  return `${agent}/${hashId("user", channel, sender.id)}`;
}

/** How many turns a tenant's gate lets in now; without an end where its limit was taken out of the configuration. */
export function gateLimit(configuration: Configuration, tenant: string, gate: string): number {
  const { tenants, agents } = configuration;
  if (gate === TENANT_GATE)
    return Object.hasOwn(tenants, tenant) ? (tenants[tenant]?.limits.runningTurns ?? 1) : 1;
  const agent = gate.slice(0, gate.indexOf("/"));
  const limit = Object.hasOwn(agents, agent) ? agents[agent]?.perUser?.running : undefined;
  return limit ?? Number.MAX_SAFE_INTEGER;
}
