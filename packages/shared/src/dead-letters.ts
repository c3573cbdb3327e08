import type { Cluster, Redis } from "ioredis";
import { z } from "zod";
import type { MessageEnd, PublishedReply } from "./commit-note.ts";
import { type DeadLetterKeys, deadLetterKeys } from "./keys.ts";
import { Script } from "./script.ts";
import { readSetPage } from "./sorted-set-page.ts";

const scripts = {
  list: new Script("list-dead-letter"),
  settle: new Script("settle-dead-letter"),
  unlist: new Script("unlist-dead-letter"),
} as const;

/** Most dead letters that a tenant's list holds; older ones stay in the commit log of their sessions only. */
export const DEAD_LETTERS_LISTED = 10_000;
/** How long it is known that a dead letter was retried or dropped, so that a repair does not list it again. */
const SETTLED_TTL_MS = 90 * 24 * 3_600_000;
/** Characters of the text that the list shows. */
const EXCERPT_LENGTH = 200;

const summarySchema = z.object({
  kind: z.enum(["message", "reply"]),
  sessionId: z.string(),
  /** Of a dead message. */
  agent: z.string().optional(),
  channel: z.string(),
  conversation: z.string(),
  thread: z.string().optional(),
  /** Who sent it, of a dead message. */
  sender: z.string().optional(),
  /** The beginning of its text. */
  excerpt: z.string(),
  error: z.object({ code: z.string(), message: z.string() }),
  /** Of the commit that ended the message, or holds the reply. */
  generation: z.int(),
});
export type DeadLetterSummary = z.output<typeof summarySchema>;

/** A message that was given up on, or a reply that could not be delivered, as the list shows it. */
export interface DeadLetter extends DeadLetterSummary {
  /** Of a message its own id; of a reply one that says its session. */
  readonly id: string;
  /** Milliseconds since the epoch. */
  readonly diedAt: number;
}

/** What became of a dead message. */
const settlementSchema = z.union([
  z.strictObject({ outcome: z.literal("dropped") }),
  z.strictObject({ outcome: z.literal("retried"), messageId: z.string() }),
]);
export type Settlement = z.output<typeof settlementSchema>;

/** What the list shows of a dead message. */
export function summarizeDeadMessage(
  { message, error }: Pick<MessageEnd, "message" | "error">,
  generation: number,
): DeadLetterSummary {
  const { sessionId, agent, channel, conversation, thread, sender, text } = message;
  return {
    ...{ kind: "message", sessionId, agent, channel, conversation, generation },
    ...(thread === undefined ? {} : { thread }),
    ...{ sender: sender.id, excerpt: excerptOf(text) },
    error: error ?? { code: "UNKNOWN", message: "" },
  };
}

/** What the list shows of a dead reply. */
export function summarizeDeadReply(
  reply: PublishedReply,
  error: DeadLetterSummary["error"],
): DeadLetterSummary {
  const { sessionId, channel, conversation, thread, text, generation } = reply;
  return {
    ...{ kind: "reply", sessionId, channel, conversation, generation, error },
    ...(thread === undefined ? {} : { thread }),
    excerpt: excerptOf(text),
  };
}

function excerptOf(text: string): string {
  return text.slice(0, EXCERPT_LENGTH).toWellFormed();
}

/** The id of a dead reply on the list. */
export function deadReplyId(sessionId: string, replyId: string): string {
  return `reply-${sessionId}-${replyId}`;
}

/** The session and reply in the id of a dead reply; undefined where the text is none. */
export function parseDeadReplyId(
  id: string,
): { readonly sessionId: string; readonly replyId: string } | undefined {
  const [, sessionId, replyId] = /^reply-([a-z2-7]{26})-([a-z2-7]{26})$/.exec(id) ?? [];
  return sessionId === undefined || replyId === undefined ? undefined : { sessionId, replyId };
}

/**
 * The lists of dead letters, one a tenant. A convenience: what a dead message said is in the commit that ended it,
 * what a dead reply says in its session, and the lists are rebuilt from there. A dead letter is:
 *
 * - **listed** when it dies → **settled** (retried or dropped), off the list, which is remembered for 90 days.
 * - A dead reply that is retried is only taken off: it may die again under the same id, and is listed again then.
 * - Beyond `DEAD_LETTERS_LISTED` the oldest leave the list.
 */
export class DeadLetters {
  readonly #redis: Redis | Cluster;

  constructor(redis: Redis | Cluster) {
    this.#redis = redis;
  }

  /**
   * Lists one; nothing happens where it is listed, or was settled before.
   *
   * @param diedAt milliseconds since the epoch; undefined: now, by Redis' clock
   * @returns false where it was settled before
   */
  async list(tenant: string, id: string, summary: DeadLetterSummary, diedAt?: number): Promise<boolean> {
    const { list, summaries, settled } = keysOf(tenant, id);
    const code = await scripts.list.run(
      this.#redis,
      [list, summaries, settled],
      [id, JSON.stringify(summary), diedAt === undefined ? "" : Math.floor(diedAt), DEAD_LETTERS_LISTED],
    );
    return code === 1;
  }

  /** A page of a tenant's list, latest first. */
  async page(
    tenant: string,
    options: { readonly limit: number; readonly cursor?: string | undefined },
  ): Promise<{ readonly letters: readonly DeadLetter[]; readonly cursor: string | undefined }> {
    const { list, summaries } = deadLetterKeys(tenant);
    const { members, cursor } = await readSetPage(this.#redis, list, options);
    const texts =
      members.length === 0 ? [] : await this.#redis.hmget(summaries, ...members.map(({ id }) => id));
    const letters = members.flatMap(({ id, score }, index) => {
      const summary = readSummary(texts[index]);
      return summary === undefined ? [] : [{ ...summary, id, diedAt: score }];
    });
    return { letters, cursor };
  }

  /** One that is listed; undefined where none is. */
  async find(tenant: string, id: string): Promise<DeadLetter | undefined> {
    const { list, summaries } = deadLetterKeys(tenant);
    const [score, text] = await Promise.all([this.#redis.zscore(list, id), this.#redis.hget(summaries, id)]);
    const summary = readSummary(text);
    return score === null || summary === undefined ? undefined : { ...summary, id, diedAt: Number(score) };
  }

  /** What became of one that is not listed any more; undefined where that is not known (any more). */
  async findSettlement(tenant: string, id: string): Promise<Settlement | undefined> {
    const text = await this.#redis.get(keysOf(tenant, id).settled);
    return text === null ? undefined : settlementSchema.parse(JSON.parse(text));
  }

  /** Takes one off the list for good; false where it was settled before. */
  async settle(tenant: string, id: string, settlement: Settlement): Promise<boolean> {
    const { list, summaries, settled } = keysOf(tenant, id);
    const code = await scripts.settle.run(
      this.#redis,
      [list, summaries, settled],
      [id, JSON.stringify(settlement), SETTLED_TTL_MS],
    );
    return code === 1;
  }

  /** Takes one off the list as it was found; it may come again. */
  async unlist(tenant: string, { id, diedAt }: DeadLetter): Promise<void> {
    const { list, summaries } = deadLetterKeys(tenant);
    await scripts.unlist.run(this.#redis, [list, summaries], [id, diedAt]);
  }
}

function keysOf(tenant: string, id: string): DeadLetterKeys & { readonly settled: string } {
  const keys = deadLetterKeys(tenant);
  return { ...keys, settled: `${keys.list}:${id}` };
}

function readSummary(text: string | null | undefined): DeadLetterSummary | undefined {
  return text === null || text === undefined ? undefined : summarySchema.parse(JSON.parse(text));
}
