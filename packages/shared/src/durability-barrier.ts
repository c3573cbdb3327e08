import { Cluster, type Redis } from "ioredis";
import { LongshoreError } from "./errors.ts";
import { barrierKey, messageKey } from "./keys.ts";
import type { RedisClient } from "./redis.ts";

/** How long Redis may take until a message is where it has to be, in ms. */
const WAIT_MS = 1_000;
/** Messages that one question confirms, at most. */
const BATCH = 1_000;
/** Messages that wait for a question, at most; beyond it they are not confirmed. */
const QUEUE = 10_000;
/** How long the key lasts whose write is waited for, in ms: its content means nothing. */
const MARK_TTL_MS = 10_000;

/** A message is in Redis, and perhaps nowhere else: it is not accepted as durably as is configured. */
export class NotDurableError extends LongshoreError {
  constructor(reason: string, cause?: unknown) {
    super("NOT_DURABLE", `The message is not stored as durably as is configured: ${reason}`, {
      retryable: true,
      cause,
    });
  }
}

interface Waiting {
  readonly messageId: string;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** The questions of one server: asking, with those of them that came since waiting; or idle. */
interface Line {
  readonly waiting: Waiting[];
  asking: boolean;
}

export interface DurabilityBarrierOptions {
  /** Of the barrier alone: it blocks. Without a command time-out below a second. */
  readonly redis: RedisClient;
  readonly ask: "WAIT" | "WAITAOF";
}

/**
 * Confirms that accepted messages are on a replica (WAIT), or on the disk (WAITAOF).
 *
 * Redis waits for what the asking connection wrote. So the question is: is the message's record here (after a failover
 * it may not be), write a mark, wait for the mark. Whatever this server had written before the mark, by whomever, is
 * confirmed with it: one question is enough for all messages that came while the one before was open, and for a
 * message that is a duplicate of one that could not be confirmed.
 */
export class DurabilityBarrier {
  readonly #options: DurabilityBarrierOptions;
  readonly #lines = new Map<string, Line>();

  constructor(options: DurabilityBarrierOptions) {
    this.#options = options;
  }

  /** Resolves when the message is as durable as is wanted; else a `NotDurableError`. Bounded in time. */
  async confirm(messageId: string): Promise<void> {
    const server = await this.#serverOf(messageId);
    const line = this.#lineOf(server);
    if (line.waiting.length >= QUEUE) throw new NotDurableError("too many messages wait for it");
    const confirmed = new Promise<void>((resolve, reject) => {
      line.waiting.push({ messageId, resolve, reject });
    });
    if (!line.asking) void this.#work(server, line);
    await confirmed;
  }

  #lineOf({ options: { host, port } }: Redis): Line {
    const name = `${host}:${port}`;
    const line = this.#lines.get(name) ?? { waiting: [], asking: false };
    this.#lines.set(name, line);
    return line;
  }

  /** The primary that has the message. */
  async #serverOf(messageId: string): Promise<Redis> {
    const { redis } = this.#options;
    if (!(redis instanceof Cluster)) return redis;
    const slot = await redis.cluster("KEYSLOT", messageKey(messageId));
    const primary = redis.slots[slot]?.[0];
    const found = redis.nodes("master").find(({ options: { host, port } }) => `${host}:${port}` === primary);
    if (found === undefined) throw new NotDurableError("its part of the cluster is away");
    return found;
  }

  async #work(server: Redis, line: Line): Promise<void> {
    line.asking = true;
    while (line.waiting.length > 0) {
      const batch = line.waiting.splice(0, BATCH);
      try {
        const isThere = await this.#askFor(server, batch);
        for (const [index, { resolve, reject }] of batch.entries()) {
          if (isThere[index]) resolve();
          else reject(new NotDurableError("Redis has lost it in the meantime"));
        }
      } catch (error) {
        const refused = error instanceof NotDurableError ? error : new NotDurableError("Redis failed", error);
        for (const { reject } of batch) reject(refused);
      }
    }
    line.asking = false;
  }

  /** Of each message whether its record is there, once the server has confirmed all of them. */
  async #askFor(server: Redis, batch: readonly Waiting[]): Promise<boolean[]> {
    const questions = server.pipeline();
    for (const { messageId } of batch) questions.exists(messageKey(messageId));
    // In the slot of the first message, which is one of this server's.
    questions.set(barrierKey((batch[0] as Waiting).messageId), "", "PX", MARK_TTL_MS);
    if (this.#options.ask === "WAIT") questions.wait(1, WAIT_MS);
    else questions.call("WAITAOF", 1, 0, WAIT_MS);
    const answers = (await questions.exec()) ?? [];
    const values = answers.map(([error, value]) => {
      if (error !== null) throw error;
      return value;
    });
    if (values.length !== batch.length + 2) throw new NotDurableError("Redis did not answer");
    const confirmed = [values.at(-1)].flat()[0];
    if (Number(confirmed) < 1)
      throw new NotDurableError(
        this.#options.ask === "WAIT"
          ? `no replica confirmed it within ${WAIT_MS} ms`
          : `it was not flushed to the disk within ${WAIT_MS} ms`,
      );
    return values.slice(0, batch.length).map((value) => value === 1);
  }
}
