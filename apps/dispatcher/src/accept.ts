import { ObjectNotFoundError, type SessionRef, type SessionStore } from "@longshore/session-store";
import {
  type AcceptedMessage,
  type AgentDefinition,
  type AtWork,
  type Clock,
  type Configuration,
  type DurabilityBarrier,
  deriveMessageId,
  deriveOperationId,
  GatheredCalls,
  InvalidMessageError,
  type Logger,
  LongshoreError,
  MailboxFullError,
  type Message,
  type MessageRate,
  type MessageState,
  MessageTooLargeError,
  type Metrics,
  NoRouteError,
  type Operation,
  RateLimitedError,
  type RedisClient,
  routeMessage,
  SessionBusyError,
  type SessionState,
  StorageFullError,
  type StoredAttachment,
  type StoredBytes,
  type TurnWakes,
  tenantSessionsKey,
  UnknownAgentError,
  UnknownChannelError,
  UnknownTenantError,
} from "@longshore/shared";
import type { AttachmentSource } from "./attachment-source.ts";
import { AttachmentFetchError, StoreTimeoutError } from "./errors.ts";
import { type NamedAttachment, readAttachments } from "./incoming-attachments.ts";
import type { SessionOrigin } from "./session-origin.ts";
import { TooManyWaitingError, WAIT_HORIZON_MS, type WaitingMessages } from "./waiting-messages.ts";

/** How long the object store may take for the attachments of a message, in ms. */
const STORE_TIMEOUT_MS = 60_000;
/** Sessions that are put into the lists of their tenants together at most. */
const LISTED_TOGETHER = 1_000;
const UNKNOWN = "unknown";

interface TenantSession {
  readonly tenant: string;
  readonly sessionId: string;
}

export interface AcceptedAnswer {
  readonly messageId: string;
  readonly sessionId: string;
  /** The message's place in the order of its session. */
  readonly seq: number;
  /** The message was accepted before; nothing was done. */
  readonly duplicate: boolean;
  readonly state: MessageState;
}

/** What is answered for a message that waits for its `notBefore`: it has no place in the order yet. */
export interface WaitingAnswer {
  readonly messageId: string;
  readonly sessionId: string;
  readonly seq: null;
  readonly duplicate: boolean;
  readonly state: "waiting";
}

export interface AcceptorOptions {
  readonly configuration: () => Configuration;
  readonly state: SessionState;
  readonly store: SessionStore;
  readonly attachmentSource: AttachmentSource;
  readonly waiting: WaitingMessages;
  readonly turnWakes: TurnWakes;
  readonly rate: MessageRate;
  readonly stored: StoredBytes;
  readonly redis: RedisClient;
  /** Makes sure that a message is as durable as is configured; absent where Redis does that by itself. */
  readonly barrier?: DurabilityBarrier | undefined;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly clock: Clock;
}

/**
 * Accepts messages, from HTTP and from the queue `inbound` alike (I2). The order of its steps is what makes
 * a message safe; killed between any two of them, this is what is left:
 *
 * 1. Nothing is written before the whole message is found good: a refused one leaves nothing but an index entry.
 *    Whether its tenant may send more is asked while its attachments are stored; whether it may store more, before.
 * 2. Attachments go to the object store first, by their hash; those that are named by a URL once they are here whole.
 *    Killed here: objects that no message names, which garbage collection takes. Sent again, the same objects are found there. The other way round, a
 *    message could reach its agent without its file.
 * 3. `SessionState.accept`: the entry in the pending index, which may be made while 1 and 2 go on, then one
 *    script. Killed between the two: an entry for an empty session, which the sweeper takes out. Killed after
 *    the script: the message is accepted although nobody was told; the sweeper finds it by the entry, and sent again with the same id
 *    it is a duplicate.
 *    Where more is asked of Redis than to have it (`durability`), that is waited for here; where it does not
 *    come, the caller gets an error, and the message is served all the same if it is still there.
 * 4. The wake. Killed before it: the sweeper adds one. It fails: the caller gets an error, sends again, and
 *    the duplicate wakes again. A message that is sure to be served is the only thing that is answered "yes".
 * 5. The list of the tenant's sessions: a convenience, rebuilt from the object store, so its failure is
 *    not the message's.
 */
export class Acceptor {
  readonly #options: AcceptorOptions;
  readonly #listing: GatheredCalls<TenantSession, undefined>;

  constructor(options: AcceptorOptions) {
    this.#options = options;
    this.#listing = new GatheredCalls((sessions) => this.#listAll(sessions), LISTED_TOGETHER);
  }

  /**
   * Accepts a message, or lets it wait for its `notBefore`. Throws the errors of `routeMessage`, `InvalidMessageError`,
   * `MessageTooLargeError`, `AttachmentFetchError`, `MailboxFullError`, `SessionBusyError`, `TooManyWaitingError`, `RateLimitedError`,
   * `StorageFullError`, `StoreTimeoutError`, the store's, and Redis' own. After a retryable one the message may be accepted or
   * not: sent again with the same id, it is one message all the same.
   */
  async accept(tenant: string, message: Message): Promise<AcceptedAnswer | WaitingAnswer> {
    try {
      const answer = await this.#accept(tenant, message);
      this.#count(tenant, message.agent, answer.duplicate ? "duplicate" : "accepted");
      return answer;
    } catch (error) {
      if (error instanceof LongshoreError && (isRefusal(error) || isFull(error))) {
        this.#count(tenant, message.agent, "refused");
        this.#options.metrics.refusals.inc({ tenant: this.#labelOf(tenant), code: error.code });
      }
      throw error;
    }
  }

  /**
   * Accepts an operation on a session: a message that is no word to its agent, in order with those that are. Its
   * contents are in the object store already.
   *
   * @param key chosen by its sender; the idempotency key among the session's operations
   * @throws UnknownAgentError where the agent is not configured any more; MailboxFullError; Redis' errors, as `accept`
   */
  async acceptOperation(
    ref: SessionRef,
    { agent, ...conversation }: SessionOrigin,
    sender: string,
    key: string,
    operation: Operation,
  ): Promise<AcceptedAnswer> {
    const { agents } = this.#options.configuration();
    if (!Object.hasOwn(agents, agent) || agents[agent]?.tenant !== ref.tenant)
      throw new UnknownAgentError(agent);
    const answer = await this.#append({
      ...{ ...ref, ...conversation, agent, id: deriveOperationId(ref.sessionId, key) },
      ...{ sender: { id: sender }, text: "", attachments: [], kind: "system", operation },
      acceptedAt: new Date(this.#options.clock.now()).toISOString(),
    });
    this.#count(ref.tenant, agent, answer.duplicate ? "duplicate" : "accepted");
    return answer;
  }

  /**
   * Accepts a message again whose attachments are stored already: a dead letter. It stays with its session, whatever the
   * routes say now.
   *
   * @throws UnknownAgentError, UnknownChannelError where it could not be answered any more; ObjectNotFoundError where an
   *   attachment is beyond its retention; StoreTimeoutError; MailboxFullError; Redis' errors, as `accept`
   */
  async acceptStored(message: Omit<AcceptedMessage, "acceptedAt">): Promise<AcceptedAnswer> {
    const { configuration, clock } = this.#options;
    const { tenant, sessionId, agent, channel, attachments } = message;
    const { agents, channels } = configuration();
    if (!Object.hasOwn(agents, agent) || agents[agent]?.tenant !== tenant) throw new UnknownAgentError(agent);
    if (!Object.hasOwn(channels, channel)) throw new UnknownChannelError(channel);
    await this.#keepLonger({ tenant, sessionId }, attachments);
    const answer = await this.#append({ ...message, acceptedAt: new Date(clock.now()).toISOString() });
    this.#count(tenant, agent, answer.duplicate ? "duplicate" : "accepted");
    return answer;
  }

  /**
   * Accepts a message whose time has come, whatever became of its agent meanwhile: its sender was told that it would be
   * answered, so that it has to come to an end of its own.
   *
   * @throws UnknownTenantError; MailboxFullError; StoreTimeoutError, the store's and Redis' errors, as `accept`
   */
  async acceptDue(message: AcceptedMessage): Promise<AcceptedAnswer> {
    const { configuration, clock, log, waiting } = this.#options;
    const { id, tenant, sessionId, agent, attachments } = message;
    if (!Object.hasOwn(configuration().tenants, tenant)) throw new UnknownTenantError(tenant);
    await this.#keepLonger({ tenant, sessionId }, attachments).catch((error: unknown) => {
      if (!(error instanceof ObjectNotFoundError)) throw error;
      // Its turn will say so, and it will be a dead letter.
      log.warn({ err: error, messageId: id }, "an attachment of a message that waited is gone");
    });
    const answer = await this.#append({ ...message, acceptedAt: new Date(clock.now()).toISOString() });
    this.#count(tenant, agent, answer.duplicate ? "duplicate" : "accepted");
    await waiting
      .forget(message)
      .catch((error: unknown) => log.warn({ err: error, messageId: id }, "still counted as waiting"));
    return answer;
  }

  async #accept(tenant: string, message: Message): Promise<AcceptedAnswer | WaitingAnswer> {
    const { configuration, clock, state } = this.#options;
    const { sessionId, agent } = routeMessage(configuration(), { tenant, ...message });
    if (!agent.mountsByMessage && message.mounts !== undefined && message.mounts.length > 0)
      throw new InvalidMessageError([
        { where: "mounts", problem: "none, since the agent's definition does not say `mountsByMessage`" },
      ]);
    const contents = readAttachments(message, agent);

    const messageId = deriveMessageId(sessionId, message.id);
    const dueMs = message.notBefore === undefined ? 0 : Date.parse(message.notBefore);
    const waits = dueMs > clock.now();
    const known = waits ? await this.#findWaiting(sessionId, messageId, dueMs) : undefined;
    if (known !== undefined) return known;
    // While its tenant's limits are asked; where it fails, whoever waits for it is told.
    const indexed = waits || message.wake === false ? undefined : state.index(sessionId);
    indexed?.catch(() => undefined);
    await this.#assertRoomFor(tenant, messageId);
    const store = async (refused: AbortSignal) => {
      // Sent again, its attachments are stored already; what a server has of them may be something else now.
      const isKnown =
        contents.some(({ url }) => url !== undefined) && (await state.readMessage(messageId)) !== undefined;
      return isKnown ? [] : await this.#store({ tenant, sessionId }, contents, agent, refused);
    };
    return await this.#withinRate(tenant, messageId, store, async (attachments) => {
      const { id: _senderId, attachments: _content, ...rest } = message;
      const accepted: AcceptedMessage = {
        ...rest,
        id: messageId,
        tenant,
        sessionId,
        attachments,
        acceptedAt: new Date(clock.now()).toISOString(),
      };
      if (!waits) return await this.#append(accepted, indexed);
      await this.#options.waiting.add(accepted, dueMs, clock.now());
      return { messageId, sessionId, seq: null, duplicate: false, state: "waiting" };
    });
  }

  /** What is answered for a message that has to wait and was sent before. */
  async #findWaiting(
    sessionId: string,
    messageId: string,
    dueMs: number,
  ): Promise<AcceptedAnswer | WaitingAnswer | undefined> {
    const { state, waiting, clock } = this.#options;
    if (dueMs - clock.now() > WAIT_HORIZON_MS)
      throw new InvalidMessageError([{ where: "notBefore", problem: "at most 30 days from now" }]);
    const record = await state.readMessage(messageId);
    if (record !== undefined)
      return { messageId, sessionId, seq: record.seq, duplicate: true, state: record.state };
    const before = await waiting.find(messageId);
    if (before === undefined || before.error !== undefined) return undefined;
    return { messageId, sessionId, seq: null, duplicate: true, state: "waiting" };
  }

  /**
   * Counts a message while its attachments are stored, which ends where there is no room for it. One that is not
   * accepted in the end, or was before, is not counted.
   */
  async #withinRate(
    tenant: string,
    messageId: string,
    store: (refused: AbortSignal) => Promise<StoredAttachment[]>,
    accept: (attachments: StoredAttachment[]) => Promise<AcceptedAnswer | WaitingAnswer>,
  ): Promise<AcceptedAnswer | WaitingAnswer> {
    const { configuration, rate, log } = this.#options;
    const limit = configuration().tenants[tenant]?.limits.messagesPerMinute ?? 0;
    const refused = new AbortController();
    const counting = this.#countInRate(tenant, messageId, limit).catch((error: unknown) => {
      refused.abort(error);
      throw error;
    });
    const [stored, counted] = await Promise.allSettled([store(refused.signal), counting]);
    if (counted.status === "rejected") throw counted.reason;
    let isNew = false;
    try {
      if (stored.status === "rejected") throw stored.reason;
      const answer = await accept(stored.value);
      isNew = !answer.duplicate;
      return answer;
    } finally {
      if (counted.value && !isNew)
        await rate
          .giveBack(tenant, limit)
          .catch((error: unknown) => log.warn({ err: error, tenant }, "a message is counted that was none"));
    }
  }

  /** False where there is no room, and none is needed: sent again, a message gets the answer of the first time. */
  async #countInRate(tenant: string, messageId: string, limit: number): Promise<boolean> {
    try {
      await this.#options.rate.count(tenant, limit);
      return true;
    } catch (error) {
      if (!(error instanceof RateLimitedError)) throw error;
      if ((await this.#options.state.readMessage(messageId)) === undefined) throw error;
      return false;
    }
  }

  /** @throws StorageFullError where a tenant has as much in the object store as it may; Redis' errors */
  async assertRoom(tenant: string): Promise<void> {
    const { configuration, stored } = this.#options;
    await stored.assertRoom(tenant, configuration().tenants[tenant]?.limits.storedBytes ?? 0);
  }

  /** As `assertRoom`; sent again, a message needs no room: its attachments are there. */
  async #assertRoomFor(tenant: string, messageId: string): Promise<void> {
    try {
      await this.assertRoom(tenant);
    } catch (error) {
      if (!(error instanceof StorageFullError)) throw error;
      if ((await this.#options.state.readMessage(messageId)) === undefined) throw error;
    }
  }

  /** Steps 3 to 5. */
  async #append(accepted: AcceptedMessage, indexed?: Promise<number>): Promise<AcceptedAnswer> {
    const { configuration, state, turnWakes, barrier } = this.#options;
    const { id: messageId, tenant, sessionId } = accepted;
    if (accepted.wake === false) return await this.#appendContext(accepted);
    const bound = configuration().tenants[tenant]?.limits.mailbox ?? 0;
    const result = await state.accept(accepted, bound, atWorkOf(accepted, configuration()), indexed);

    const ended = result.state !== "accepted" && result.state !== "running";
    // A duplicate as well: the first may be one that was refused because this failed.
    if (!ended) await barrier?.confirm(messageId);
    const listed = this.#list(tenant, sessionId);
    if (!result.leased && !ended) {
      if (result.marked) await turnWakes.hasten({ sessionId, tenant });
      else await turnWakes.wake({ sessionId, tenant });
    }
    await listed;
    return { messageId, sessionId, seq: result.seq, duplicate: result.duplicate, state: result.state };
  }

  /** A message that only adds context: it is in Redis, and nobody is woken for it. */
  async #appendContext(accepted: AcceptedMessage): Promise<AcceptedAnswer> {
    const { configuration, state, barrier } = this.#options;
    const { id: messageId, tenant, sessionId, agent } = accepted;
    const { agents } = configuration();
    const bound = Object.hasOwn(agents, agent) ? agents[agent]?.context : undefined;
    // Its agent was there when it was routed, a moment ago.
    if (bound === undefined) throw new UnknownAgentError(agent);
    const result = await state.acceptContext(accepted, { messages: bound.messages, keepMs: bound.keep });
    await barrier?.confirm(messageId);
    await this.#list(tenant, sessionId);
    return { messageId, sessionId, ...result };
  }

  async #store(
    ref: SessionRef,
    contents: readonly NamedAttachment[],
    agent: AgentDefinition,
    refused: AbortSignal,
  ): Promise<StoredAttachment[]> {
    if (contents.length === 0) return [];
    await using fetched = new AsyncDisposableStack();
    const whole = await this.#options.attachmentSource.fetchAll(contents, agent, refused, fetched);
    return await inTime(async (timeout) => {
      const signal = AbortSignal.any([timeout, refused]);
      const stored: StoredAttachment[] = [];
      for (const { name, contentType, content } of whole) {
        const { sha256, sizeBytes } = await this.#options.store.putInbound(ref, content, signal);
        stored.push({ name, contentType, sizeBytes, sha256 });
      }
      return stored;
    });
  }

  /** Stores anew what was stored so long ago that it may be gone before the message is answered. */
  async #keepLonger(ref: SessionRef, attachments: readonly StoredAttachment[]): Promise<void> {
    if (attachments.length === 0) return;
    const { store } = this.#options;
    await inTime(async (signal) => {
      const hashes = attachments.map(({ sha256 }) => sha256);
      const kept = await store.findInbound(ref, hashes, signal);
      for (const sha256 of new Set(hashes)) {
        if (kept.has(sha256)) continue;
        const old = await store.openInbound(ref, sha256, signal);
        await store.putInbound(ref, { sizeBytes: old.sizeBytes, open: () => old.stream() }, signal);
      }
    });
  }

  async #list(tenant: string, sessionId: string): Promise<void> {
    try {
      await this.#listing.add({ tenant, sessionId });
    } catch (error) {
      this.#options.log.warn({ err: error, sessionId }, "session not listed");
    }
  }

  async #listAll(sessions: readonly TenantSession[]): Promise<undefined[]> {
    const { redis, clock } = this.#options;
    const now = clock.now();
    const tenants = Map.groupBy(sessions, ({ tenant }) => tenant);
    await Promise.all(
      Array.from(tenants, ([tenant, members]) =>
        redis.zadd(
          tenantSessionsKey(tenant),
          ...[...new Set(members.map(({ sessionId }) => sessionId))].flatMap((sessionId) => [now, sessionId]),
        ),
      ),
    );
    return sessions.map(() => undefined);
  }

  /** Labels are bounded: names that a sender made up are not among them. */
  #count(tenant: string, agent: string, outcome: string): void {
    const { agents } = this.#options.configuration();
    this.#options.metrics.messages.inc({
      tenant: this.#labelOf(tenant),
      agent: Object.hasOwn(agents, agent) ? agent : UNKNOWN,
      outcome,
    });
  }

  #labelOf(tenant: string): string {
    return Object.hasOwn(this.#options.configuration().tenants, tenant) ? tenant : UNKNOWN;
  }
}

/** What a message does to a turn of its session that runs; an operation waits, whatever the agent says. */
function atWorkOf({ operation, agent }: AcceptedMessage, { agents }: Configuration): AtWork {
  const busy = operation === undefined && Object.hasOwn(agents, agent) ? agents[agent]?.busy : undefined;
  return busy === "interrupt" || busy === "rollback" || busy === "reject" ? busy : "wait";
}

const REFUSALS = [
  InvalidMessageError,
  MessageTooLargeError,
  NoRouteError,
  UnknownAgentError,
  UnknownChannelError,
  UnknownTenantError,
];

/** Whether a message was refused for what it is, so that no retry mends it. */
export function isRefusal(error: unknown): boolean {
  return REFUSALS.some((refusal) => error instanceof refusal);
}

/** Whether there was no room for a message, or no file that it names, or its agent takes one at a time. */
function isFull(error: unknown): boolean {
  return (
    error instanceof MailboxFullError ||
    error instanceof RateLimitedError ||
    error instanceof StorageFullError ||
    error instanceof AttachmentFetchError ||
    error instanceof SessionBusyError ||
    error instanceof TooManyWaitingError
  );
}

/** @throws StoreTimeoutError where the object store takes too long */
async function inTime<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const signal = AbortSignal.timeout(STORE_TIMEOUT_MS);
  try {
    return await work(signal);
  } catch (error) {
    throw signal.aborted ? new StoreTimeoutError(STORE_TIMEOUT_MS, error) : error;
  }
}
