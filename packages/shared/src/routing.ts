import type { AgentDefinition, Configuration } from "./configuration-schema.ts";
import {
  NoRouteError,
  UnknownAgentError,
  UnknownChannelError,
  UnknownTenantError,
} from "./message-errors.ts";
import { deriveSessionId } from "./session-id.ts";

export interface Destination {
  readonly tenant: string;
  readonly agent: string;
  readonly channel: string;
  readonly conversation: string;
  readonly thread?: string | undefined;
}

/** A conversation, or a thread of one. */
export type ConversationPlace = Omit<Destination, "tenant" | "agent">;

export interface Routed {
  readonly sessionId: string;
  readonly agent: AgentDefinition;
  /** Other conversations that the agent may write to, by its name for each. */
  readonly destinations: Readonly<Record<string, ConversationPlace>>;
  /** Whether the agent may look after its whole tenant. */
  readonly operator: boolean;
}

/**
 * The session and agent of a message: the first route that matches decides. Throws `UnknownTenantError`,
 * `UnknownAgentError` (also for another tenant's agent: nothing crosses tenants), `UnknownChannelError`,
 * `NoRouteError`.
 */
export function routeMessage(configuration: Configuration, to: Destination): Routed {
  if (!Object.hasOwn(configuration.tenants, to.tenant)) throw new UnknownTenantError(to.tenant);
  const agent = Object.hasOwn(configuration.agents, to.agent) ? configuration.agents[to.agent] : undefined;
  if (agent === undefined || agent.tenant !== to.tenant) throw new UnknownAgentError(to.agent);
  if (!Object.hasOwn(configuration.channels, to.channel)) throw new UnknownChannelError(to.channel);
  const route = configuration.routes.find(
    ({ channel, conversation, agent: name }) =>
      channel === to.channel &&
      name === to.agent &&
      (conversation === undefined || conversation === to.conversation),
  );
  if (route === undefined) throw new NoRouteError(to.channel, to.agent);
  const { destinations, operator } = route;
  return { sessionId: deriveSessionId(route.session, to), agent, destinations, operator };
}
