import { LongshoreError } from "./errors.ts";

/** One thing that is wrong with an input: where, and what is allowed there. */
export interface InputProblem {
  /** Path inside the input, `attachments.0.data`; empty for the whole of it. */
  readonly where: string;
  readonly problem: string;
}

/** A message that is malformed. Sending it again unchanged can't succeed. */
export class InvalidMessageError extends LongshoreError {
  readonly problems: readonly InputProblem[];

  constructor(problems: readonly InputProblem[]) {
    super(
      "INVALID_MESSAGE",
      `The message is not valid: ${problems.map(({ where, problem }) => (where ? `${where}: ${problem}` : problem)).join("; ")}`,
    );
    this.problems = problems;
  }
}

/** No agent of this name is defined for the tenant. */
export class UnknownAgentError extends LongshoreError {
  readonly agent: string;
  constructor(agent: string) {
    super("UNKNOWN_AGENT", `No agent "${agent}" is defined for this tenant`);
    this.agent = agent;
  }
}

/** The message names a channel that the configuration does not define. */
export class UnknownChannelError extends LongshoreError {
  readonly channel: string;
  constructor(channel: string) {
    super("UNKNOWN_CHANNEL", `No channel "${channel}" is configured`);
    this.channel = channel;
  }
}

/** No route leads from the message's channel and conversation to its agent. */
export class NoRouteError extends LongshoreError {
  constructor(channel: string, agent: string) {
    super("NO_ROUTE", `No route leads from channel "${channel}" to agent "${agent}"`);
  }
}

/** An unknown tenant, in a job on `inbound` (over HTTP the key says the tenant). */
export class UnknownTenantError extends LongshoreError {
  readonly tenant: string;
  constructor(tenant: string) {
    super("UNKNOWN_TENANT", `No tenant "${tenant}" is configured`);
    this.tenant = tenant;
  }
}

/** The text or an attachment is larger than the agent's limits allow. */
export class MessageTooLargeError extends LongshoreError {
  readonly limit: number;
  /** @param given undefined where no more was looked at than to see that it is too much */
  constructor(what: string, given: number | undefined, limit: number, unit: "bytes" | "attachments") {
    super("MESSAGE_TOO_LARGE", `${what}: ${given ?? "too many"} ${unit}, at most ${limit} are allowed`);
    this.limit = limit;
  }
}

/** The agent takes one message at a time (`busy: reject`), and one waits or is at work; it may be sent again later. */
export class SessionBusyError extends LongshoreError {
  constructor() {
    super("SESSION_BUSY", "Another message of this session is not answered yet", { retryable: true });
  }
}

/** The session's mailbox is at its bound; the same message may be sent again later. */
export class MailboxFullError extends LongshoreError {
  readonly waiting: number;
  constructor(waiting: number) {
    super("MAILBOX_FULL", `${waiting} messages of this session wait already`, { retryable: true });
    this.waiting = waiting;
  }
}

/** The tenant has as much in the object store as it may; the same message may be sent again when there is room. */
export class StorageFullError extends LongshoreError {
  /** Bytes. */
  readonly limit: number;
  constructor(limit: number) {
    super("STORAGE_FULL", `This tenant may store ${limit} bytes, and does`, { retryable: true });
    this.limit = limit;
  }
}

/** The tenant has sent as many messages in the last minute as it may; the same one may be sent again then. */
export class RateLimitedError extends LongshoreError {
  /** Messages in any 60 seconds. */
  readonly limit: number;
  readonly retryInMs: number;
  constructor(limit: number, retryInMs: number) {
    super("RATE_LIMITED", `This tenant may send ${limit} messages a minute, and has`, { retryable: true });
    this.limit = limit;
    this.retryInMs = retryInMs;
  }
}
