import { randomBytes } from "node:crypto";
import {
  type AcceptedMessage,
  type AgentDefinition,
  type Clock,
  type Logger,
  type SessionState,
  TENANT_GATE,
  type TurnGate,
  type TurnGates,
  type TurnWakes,
  userOf,
} from "@longshore/shared";
import { UserQuotaExceededError } from "./errors.ts";
import { dayOf, endOfDay } from "./local-day.ts";

/** How long a session that waits is left alone if nobody calls it, in ms: calls may be lost. */
const UNCALLED_MS = 300_000;
/** Parts of a permit's life after which it is prolonged. */
const KEPT_EVERY = 3;
const DAY_MS = 24 * 3_600_000;

export interface TurnAdmissionOptions {
  readonly gates: TurnGates;
  readonly state: SessionState;
  readonly wakes: TurnWakes;
  /** Turns of a tenant that may run at once. */
  readonly runningTurns: (tenant: string) => number;
  readonly agentOf: (name: string, tenant: string) => AgentDefinition | undefined;
  /** How long a permit lives, in ms: a lease of a session. */
  readonly leaseMs: number;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Lets a session's turns start within the limits of its tenant and the quotas of its users.
 *
 * outside → (`admit`: every gate has room, the user's day is not spent) inside → (`rest`) outside. From outside
 * a message that is not admitted is to be looked at again after a while, or as soon as its session is called
 * (`TurnGates`); past its agent's `perUser.wait` it is given up on. Inside, the permit is kept, so that it is free again
 * a lease after its worker's death. What is asked for goes in once: the message that was admitted last is inside.
 */
export class TurnAdmission {
  readonly #options: TurnAdmissionOptions;
  readonly #sessionId: string;
  readonly #permit: string;
  #tenant: string | undefined;
  #admitted: AcceptedMessage | undefined;
  #inside: readonly TurnGate[] = [];
  #keeping: NodeJS.Timeout | undefined;
  #waitsAt: { readonly tenant: string; readonly gate: TurnGate } | undefined;

  constructor(sessionId: string, options: TurnAdmissionOptions) {
    this.#options = options;
    this.#sessionId = sessionId;
    this.#permit = `${sessionId}/${randomBytes(8).toString("hex")}`;
  }

  /** Admits the head of the mailbox, before its session is given a place: see `admit`. */
  async look(): Promise<number | undefined> {
    const [head] = await this.#options.state.readMailbox(this.#sessionId, 1);
    if (head === undefined || head.operation !== undefined) return undefined;
    return await this.admit(head).catch((error: unknown) => {
      // Whoever holds the session makes a dead letter of it.
      if (error instanceof UserQuotaExceededError) return undefined;
      throw error;
    });
  }

  /**
   * Undefined where the message's turn may start; else after how many ms it is to be looked at again.
   *
   * @throws UserQuotaExceededError where it has waited for as long as it may
   */
  async admit(message: AcceptedMessage): Promise<number | undefined> {
    if (this.#admitted?.id === message.id) return undefined;
    const { gates, agentOf, clock } = this.#options;
    const { tenant } = message;
    const definition = agentOf(message.agent, tenant);
    // Its turn will say so.
    if (definition === undefined) return undefined;
    const { running, perDay, wait = 0 } = definition.perUser ?? {};
    const user = userOf(message);
    const leftMs = Date.parse(message.acceptedAt) + wait - clock.now();
    const wanted = this.#gatesOf(message, running);
    // Another user's turn in the same activation: that one's room is another's now.
    if (this.#inside.some(({ name }) => !wanted.some((gate) => gate.name === name))) await this.rest();
    const entry = await gates.enter(tenant, wanted, {
      permit: this.#permit,
      sessionId: this.#sessionId,
      sinceMs: Date.parse(message.acceptedAt),
    });
    await this.#hurry(tenant, entry.called);
    if (entry.fullAt !== undefined) {
      this.#waitsAt = { tenant, gate: entry.fullAt };
      if (entry.fullAt.name === TENANT_GATE) return UNCALLED_MS;
      if (leftMs <= 0) throw new UserQuotaExceededError("running", entry.fullAt.limit);
      return Math.min(leftMs, UNCALLED_MS);
    }
    this.#keep(message, wanted);
    if (perDay !== undefined && !(await this.#countToday(message, user, definition.timeZone, perDay))) {
      await this.rest();
      if (leftMs <= 0) throw new UserQuotaExceededError("perDay", perDay);
      return Math.min(leftMs, endOfDay(clock.now(), definition.timeZone) - clock.now());
    }
    this.#admitted = message;
    return undefined;
  }

  /** No turn runs now: what it had is for others. */
  async rest(): Promise<void> {
    clearInterval(this.#keeping);
    const inside = this.#inside;
    const tenant = this.#tenant;
    this.#inside = [];
    this.#admitted = undefined;
    if (inside.length === 0 || tenant === undefined) return;
    const { gates, log } = this.#options;
    try {
      await this.#hurry(tenant, await gates.leave(tenant, inside, this.#permit));
    } catch (error) {
      log.warn({ err: error, sessionId: this.#sessionId }, "a permit is left to expire");
    }
  }

  /**
   * True where the session was called since it was told to wait: a call that came while its job was not delayed yet
   * could not be seen.
   */
  async wasCalled(): Promise<boolean> {
    const at = this.#waitsAt;
    return at !== undefined && (await this.#options.gates.isCalled(at.tenant, at.gate, this.#sessionId));
  }

  #gatesOf(message: AcceptedMessage, running: number | undefined): TurnGate[] {
    return [
      { name: TENANT_GATE, limit: this.#options.runningTurns(message.tenant) },
      ...(running === undefined ? [] : [{ name: userOf(message), limit: running }]),
    ];
  }

  #keep({ tenant }: AcceptedMessage, inside: readonly TurnGate[]): void {
    const { gates, leaseMs, log } = this.#options;
    this.#tenant = tenant;
    this.#inside = inside;
    this.#waitsAt = undefined;
    clearInterval(this.#keeping);
    this.#keeping = setInterval(() => {
      gates
        .keep(tenant, inside, this.#permit)
        .catch((error: unknown) =>
          log.warn({ err: error, sessionId: this.#sessionId }, "a permit is not kept"),
        );
    }, leaseMs / KEPT_EVERY);
  }

  async #countToday(
    message: AcceptedMessage,
    user: string,
    timeZone: string,
    limit: number,
  ): Promise<boolean> {
    const now = this.#options.clock.now();
    return await this.#options.gates.countUserMessage(message.tenant, user, {
      id: message.id,
      day: dayOf(now, timeZone),
      dayBefore: dayOf(now - DAY_MS, timeZone),
      limit,
    });
  }

  async #hurry(tenant: string, sessions: readonly string[]): Promise<void> {
    const { wakes, log } = this.#options;
    for (const sessionId of sessions) {
      // The sweeper finds room that nobody takes.
      await wakes
        .hurry({ sessionId, tenant })
        .catch((error: unknown) => log.warn({ err: error, sessionId }, "a session was not called"));
    }
  }
}
