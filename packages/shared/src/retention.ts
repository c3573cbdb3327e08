import type { Configuration } from "./configuration-schema.ts";

/** Which generations of a session are kept: so many of the newest, and those that are younger than so many days. */
export interface SessionRetention {
  readonly generations: number;
  readonly days: number;
}

/** Of sessions whose agent is not configured any more, as of those whose definition says nothing. */
const DEFAULT: SessionRetention = { generations: 50, days: 30 };

/** What is kept of the sessions of a tenant's agent. */
export function retentionOf(
  { agents }: Configuration,
  tenant: string,
  agent: string | undefined,
): SessionRetention {
  const definition = agent !== undefined && Object.hasOwn(agents, agent) ? agents[agent] : undefined;
  return definition?.tenant === tenant ? definition.retention : DEFAULT;
}
