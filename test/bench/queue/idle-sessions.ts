import { randomBytes } from "node:crypto";
import {
  type AcceptedMessage,
  connectRedis,
  deriveMessageId,
  deriveReplyId,
  deriveSessionId,
  endMessage,
  type PublishedReply,
  pendingKey,
  type RedisClient,
  SessionState,
  tenantSessionsKey,
} from "@longshore/shared";
import type { Measurement } from "../row.ts";
import { atOnce } from "./at-once.ts";
import type { BenchRedis } from "./bench-redis.ts";
import { failBench } from "./fail-bench.ts";

const SESSIONS = 100_000;
const CONCURRENCY = 256;
const RECORD_TTL_MS = 24 * 3_600_000;
const LEASE_MS = 15_000;
/** Short, so that the hour need not be waited for. */
const EVENTS_TTL_MS = 1_000;

/**
 * What Redis holds for a session that had one message, which was answered and its reply delivered an hour ago: its
 * events have expired, the record of its message has not.
 */
export async function* measureIdleSessions(redis: BenchRedis): AsyncGenerator<Measurement> {
  await redis.flush();
  const before = await redis.usedBytes();
  const connection = connectRedis(redis.url, { onError: failBench });
  try {
    const state = new SessionState(connection, {
      ...{ recordTtlMs: RECORD_TTL_MS, eventsLength: 1_000, eventsTtlMs: EVENTS_TTL_MS },
    });
    await atOnce(SESSIONS, CONCURRENCY, (index) => live(state, connection, index));
  } finally {
    connection.disconnect();
  }
  const bytes = (await redis.usedBytes()) - before;
  await redis.flush();
  yield {
    work: `Redis' memory for one of ${SESSIONS} idle sessions`,
    unit: "KiB",
    ours: bytes / SESSIONS / 1024,
    peer: null,
    target: { of: "ours", atMost: 1 },
  };
}

/** The life of a session, as a dispatcher, a worker, the delivery and the sweeper go through it. */
async function live(state: SessionState, redis: RedisClient, index: number): Promise<void> {
  const where = { tenant: "bench", agent: "idle", channel: "http", conversation: `conversation-${index}` };
  const sessionId = deriveSessionId("shared", where);
  const message: AcceptedMessage = {
    ...{ ...where, sessionId, id: deriveMessageId(sessionId, "first"), text: "What is new?" },
    ...{ sender: { id: "somebody" }, attachments: [], kind: "chat", acceptedAt: new Date().toISOString() },
  };
  await state.accept(message, 1_000);
  await redis.zadd(tenantSessionsKey(where.tenant), Date.now(), sessionId);

  const result = await state.takeLease(sessionId, randomBytes(16).toString("hex"), "bench", LEASE_MS);
  if (!result.taken) throw new Error("a session of its own is leased");
  await state.startTurn(sessionId, result.lease, [message.id], "turn");
  const reply: PublishedReply = {
    ...{ index: 0, kind: "answer", text: "done", artifacts: [], inReplyTo: [message.id], generation: 1 },
    ...{ channel: where.channel, conversation: where.conversation, tenant: where.tenant, sessionId },
    ...{ id: deriveReplyId(sessionId, "commit", 0), createdAt: new Date().toISOString() },
  };
  await state.publish(sessionId, result.lease, {
    ...{ generation: 1, replies: [reply], ends: [endMessage(message, "answered")] },
  });
  await state.releaseLease(sessionId, result.lease, { generation: 1, handBack: false });
  await state.startDelivery(reply, true);
  await state.markDelivered(reply, undefined);
  const score = await redis.zscore(pendingKey(sessionId), sessionId);
  await state.forgetPending(sessionId, score ?? "");
}
