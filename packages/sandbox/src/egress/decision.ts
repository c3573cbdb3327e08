/** What was decided about a request to leave a sandbox. A label of a metric: no more than these. */
export type EgressDecision =
  /** Let through to an allowed host. */
  | "allowed"
  /** Let through to an upstream of a credential, whether one was put in or not. */
  | "credential"
  /** The host and port are not allowed. */
  | "denied_host"
  /** The host's name leads to an address that is not of the public internet. */
  | "denied_address"
  /** What came in a tunnel is not TLS for the host that was asked for. */
  | "denied_tunnel"
  /** No request that a proxy takes. */
  | "malformed"
  /** Beyond a limit of the activation. */
  | "limit"
  /** The host could not be found or reached. */
  | "unreachable";

/** One decision, for the log. Of what the agent asked for only host and port: a path may hold a secret. */
export interface EgressRecord {
  readonly decision: EgressDecision;
  readonly host: string;
  readonly port: number;
}

/** Why a request does not get through. */
export class EgressRefusal extends Error {
  readonly decision: EgressDecision;
  readonly status: number;

  constructor(decision: EgressDecision, status: number, message: string) {
    super(message);
    this.decision = decision;
    this.status = status;
  }
}
