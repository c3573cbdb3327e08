import {
  ACCEPT_WINDOW_MS,
  type Configuration,
  type EndedRecords,
  gateLimit,
  type Logger,
  type Metrics,
  type PublishedReply,
  pendingShards,
  type RedisClient,
  type ReplyWake,
  type SessionState,
  type SessionSummary,
  type TurnGates,
  type TurnWakes,
  type WakeQueue,
} from "@longshore/shared";
import { conversationOf, sameConversation } from "./delivery/conversation-key.ts";
import { sleep } from "./sleep.ts";

/** Sessions that are looked at together. */
const BATCH = 100;
/** Replies of a session that are looked at for the conversations they go to. */
const REPLIES = 1_000;
/** An entry that no accept can be about to use any more; the margin is for clocks of several Redis nodes. */
const FORGET_AFTER_MS = 2 * ACCEPT_WINDOW_MS;

export interface SweeperOptions {
  readonly configuration: () => Configuration;
  readonly state: SessionState;
  readonly redis: RedisClient;
  readonly turnWakes: TurnWakes;
  readonly turnGates: TurnGates;
  readonly endedRecords: EndedRecords;
  readonly replyWakes: WakeQueue<ReplyWake>;
  readonly metrics: Metrics;
  readonly log: Logger;
}

interface Entry {
  readonly sessionId: string;
  /** Time of the session's last accept in ms, as Redis wrote it. */
  readonly score: string;
}

interface TenantCount {
  messages: number;
  /** Microseconds since the epoch, about; infinite where nothing waits. */
  oldestSeq: number;
}

/** What one sweep found. */
class Findings {
  readonly tenants = new Map<string, TenantCount>();
  runnable = 0;
  wakesLost = 0;

  add({ tenant, waiting, oldestSeq, leasedBy, retryAt }: SessionSummary, nowMs: number): void {
    if (waiting === 0) return;
    if (leasedBy === undefined && retryAt <= nowMs) this.runnable += 1;
    if (tenant === undefined) return;
    const count = this.tenants.get(tenant) ?? { messages: 0, oldestSeq: Number.POSITIVE_INFINITY };
    count.messages += waiting;
    count.oldestSeq = Math.min(count.oldestSeq, oldestSeq ?? Number.POSITIVE_INFINITY);
    this.tenants.set(tenant, count);
  }
}

/**
 * Brings back what was lost. Wakes are hints: a process that dies between accepting and waking loses one, and
 * so do `drain`, `clean`, `obliterate` and `remove` (seen). What can't be lost is the pending index: a session
 * is entered before its message is accepted. Every `dispatcher.sweeper`, over all entries, bounded batches at
 * a time, on every dispatcher (two that sweep at once do no harm: each step is safe to repeat):
 *
 * - A session with messages, without a live lease, and whose last accept or oldest message is older than a lease: it
 *   must have a job on `turns` that will be processed; else it gets one. Younger ones have a wake under way. (Whoever is
 *   refused, since the session is at work or full, and tries again, makes the last accept young, for ever.) One with a
 *   live lease has a worker, which looks at its mailbox itself.
 * - A session with replies in its outbox: each of their conversations must have a job on `replies`.
 * - A session with neither is taken out of the index, if nothing was accepted since it was read, and the entry
 *   is older than an accept can take: a message can't be appended under an entry that is gone (I2).
 * - Sessions that wait for their tenant's or user's turns to end are called where there is room (`TurnGates`).
 * - Priorities of waiting turns are kept below BullMQ's limit (`TurnOrder`).
 * - Records of ended messages beyond `dispatcher.records.count` go, the oldest first (`EndedRecords`).
 *
 * The sweep also counts, since it sees all: messages that wait, the oldest of them, sessions that could run.
 */
export class Sweeper {
  readonly #options: SweeperOptions;
  readonly #closing = new AbortController();
  #running: Promise<void> | undefined;

  constructor(options: SweeperOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { configuration, log } = this.#options;
    do {
      try {
        await this.#sweep();
      } catch (error) {
        log.warn({ err: error }, "sweep interrupted");
      }
    } while (await sleep(configuration().dispatcher.sweeper, signal));
  }

  async #sweep(): Promise<void> {
    const { redis, log } = this.#options;
    const nowMs = await this.#redisNow(redis);
    const findings = new Findings();
    let failures = 0;
    let failure: unknown;
    // What fails, as where a node of a cluster is gone, keeps nothing else from being looked at.
    const attempt = async (step: () => Promise<void>) => {
      await step().catch((error: unknown) => {
        failures += 1;
        failure ??= error;
      });
    };
    for (const shard of pendingShards())
      await attempt(async () => {
        for await (const entries of this.#entries(shard)) {
          if (this.#closing.signal.aborted) return;
          await Promise.all(entries.map((entry) => attempt(() => this.#look(entry, nowMs, findings))));
        }
      });
    if (this.#closing.signal.aborted) return;
    if (findings.wakesLost > 0) log.warn({ wakes: findings.wakesLost }, "lost wakes brought back");
    await attempt(() => this.#callWaiting());
    // Too few would be worse than those of the last sweep: workers are scaled by them.
    if (failures === 0)
      await attempt(async () => {
        findings.runnable -= await this.#countParked();
        this.#report(findings, nowMs);
      });
    await attempt(async () => {
      const rebased = await this.#options.turnWakes.rebase();
      if (rebased > 0) log.info({ jobs: rebased }, "waiting turns got new priorities");
    });
    await attempt(async () => {
      await this.#options.endedRecords.trim(this.#options.configuration().dispatcher.records.count);
    });
    if (failures > 0) log.warn({ err: failure, failures }, "parts of the sweep failed");
  }

  async #redisNow(redis: RedisClient): Promise<number> {
    const [seconds, microseconds] = await redis.time();
    return Number(seconds) * 1_000 + Math.floor(Number(microseconds) / 1_000);
  }

  /** A shard's entries in batches. One that moves meanwhile may be seen twice, or is so new that it can wait. */
  async *#entries(shard: string): AsyncGenerator<Entry[]> {
    let cursor = "0";
    do {
      const [next, flat] = await this.#options.redis.zscan(shard, cursor, "COUNT", BATCH);
      const entries: Entry[] = [];
      for (let at = 0; at + 1 < flat.length; at += 2) {
        entries.push({ sessionId: flat[at] as string, score: flat[at + 1] as string });
      }
      yield entries;
      cursor = next;
    } while (cursor !== "0");
  }

  async #look({ sessionId, score }: Entry, nowMs: number, findings: Findings): Promise<void> {
    const { configuration, state, turnWakes } = this.#options;
    const ageMs = nowMs - Number(score);
    const summary = await state.inspect(sessionId);
    findings.add(summary, nowMs);
    // A number may be ahead of the clock, where that went back.
    const waitsMs = Math.max(ageMs, nowMs - (summary.oldestSeq ?? Number.POSITIVE_INFINITY) / 1_000);
    if (summary.waiting > 0 && summary.leasedBy === undefined && waitsMs > configuration().worker.lease) {
      const { tenant } = summary;
      const wake = { sessionId, ...(tenant === undefined ? {} : { tenant }) };
      if (await turnWakes.ensure(wake)) findings.wakesLost += 1;
    }
    if (summary.undelivered > 0) {
      const replies = await state.readOutbox(sessionId, REPLIES);
      for (const conversation of conversationsOf(replies)) {
        if (await this.#options.replyWakes.ensure(conversation)) findings.wakesLost += 1;
      }
    }
    if (summary.waiting === 0 && summary.undelivered === 0 && ageMs > FORGET_AFTER_MS) {
      await state.forgetPending(sessionId, score);
    }
  }

  /** Room that a killed worker held, or that the configuration gives now. */
  async #callWaiting(): Promise<void> {
    const { configuration, turnGates, turnWakes } = this.#options;
    for (const tenant of Object.keys(configuration().tenants)) {
      const limitOf = (gate: string) => gateLimit(configuration(), tenant, gate);
      for (const sessionId of await turnGates.callWaiting(tenant, limitOf))
        await turnWakes.hurry({ sessionId, tenant });
    }
  }

  /** Sessions that wait within a tenant's or user's limit, which no worker could serve. */
  async #countParked(): Promise<number> {
    const { configuration, turnGates } = this.#options;
    const counts = await Promise.all(
      Object.keys(configuration().tenants).map((tenant) => turnGates.countWaiting(tenant)),
    );
    return counts.reduce((sum, count) => sum + count, 0);
  }

  #report({ tenants, runnable }: Findings, nowMs: number): void {
    const { configuration, metrics } = this.#options;
    // What is parked was counted a moment later.
    metrics.runnableSessions.set(Math.max(runnable, 0));
    metrics.mailboxMessages.reset();
    metrics.oldestMessageSeconds.reset();
    for (const tenant of new Set([...Object.keys(configuration().tenants), ...tenants.keys()])) {
      const count = tenants.get(tenant);
      metrics.mailboxMessages.set({ tenant }, count?.messages ?? 0);
      const oldestMs = count === undefined ? nowMs : Math.min(count.oldestSeq / 1_000, nowMs);
      metrics.oldestMessageSeconds.set({ tenant }, (nowMs - oldestMs) / 1_000);
    }
  }
}

function conversationsOf(replies: readonly PublishedReply[]): ReplyWake[] {
  const conversations: ReplyWake[] = [];
  for (const reply of replies) {
    if (!conversations.some((known) => sameConversation(known, reply)))
      conversations.push(conversationOf(reply));
  }
  return conversations;
}
