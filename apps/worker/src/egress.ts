import { EgressProxy } from "@longshore/sandbox";
import type { AgentDefinition, Logger, Metrics } from "@longshore/shared";

/** The way out of a sandbox. */
export class Egress {
  readonly proxy: EgressProxy;
  #log: Logger;

  /** @param parts.log what is decided before a session has the sandbox is logged with it */
  constructor(
    { egress }: Pick<AgentDefinition, "egress">,
    parts: { readonly metrics: Metrics; readonly log: Logger },
  ) {
    this.#log = parts.log;
    let linesLeft = 2 * egress.limits.requests;
    this.proxy = new EgressProxy({
      definition: egress,
      onDecision: (record) => {
        parts.metrics.egressRequests.inc({ decision: record.decision });
        if (linesLeft > 0) this.#log.info(record, "egress");
        else if (linesLeft === 0)
          this.#log.warn("no more decisions about this activation's egress are logged");
        linesLeft--;
      },
    });
  }

  /** From here on it is that session's. */
  bind(log: Logger): void {
    this.#log = log;
  }
}

/**
 * The way out of an agent's sandbox; undefined where the agent has none. Every decision is counted, and logged up to twice
 * the requests that it may make: what is refused beyond its limits must not fill the log.
 */
export function openEgress(
  definition: Pick<AgentDefinition, "egress">,
  parts: { readonly metrics: Metrics; readonly log: Logger },
): Egress | undefined {
  const { allow, credentials } = definition.egress;
  return allow.length > 0 || credentials.length > 0 ? new Egress(definition, parts) : undefined;
}
