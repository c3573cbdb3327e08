import { EgressProxy } from "@longshore/sandbox";
import type { AgentDefinition, Logger, Metrics } from "@longshore/shared";

/**
 * The way out of an activation's sandbox; undefined where its agent has none. Every decision is counted, and logged
 * up to twice the requests that it may make: what is refused beyond its limits must not fill the log.
 */
export function openEgress(
  { egress }: Pick<AgentDefinition, "egress">,
  { metrics, log }: { readonly metrics: Metrics; readonly log: Logger },
): EgressProxy | undefined {
  if (!hasEgress({ egress })) return undefined;
  let linesLeft = 2 * egress.limits.requests;
  return new EgressProxy({
    definition: egress,
    onDecision: (record) => {
      metrics.egressRequests.inc({ decision: record.decision });
      if (linesLeft > 0) log.info(record, "egress");
      else if (linesLeft === 0) log.warn("no more decisions about this activation's egress are logged");
      linesLeft--;
    },
  });
}

/** Whether sandboxes of an agent have a way out: it belongs to an activation, so they can't be started ahead of one. */
export function hasEgress({ egress }: Pick<AgentDefinition, "egress">): boolean {
  return egress.allow.length > 0 || egress.credentials.length > 0;
}
