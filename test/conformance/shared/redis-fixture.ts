import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type AcceptedMessage,
  connectRedis,
  deriveMessageId,
  deriveSessionId,
  endMessage,
  type Lease,
  type MessageEnd,
  type PublishedReply,
  SessionState,
  type SessionStateOptions,
} from "@longshore/shared";
import type { Redis as RedisClient } from "ioredis";
import { type Redis, startRedis } from "../../../infra/setup/redis.ts";

/** A Redis of a test file's own, which it may restart and wipe. */
export interface RedisFixture extends AsyncDisposable {
  readonly server: Redis;
  readonly client: RedisClient;
}

export async function openRedisFixture(): Promise<RedisFixture> {
  const directory = await mkdtemp(join(tmpdir(), "longshore-shared-"));
  const server = await startRedis({ directory });
  // Errors of a connection that is cut on purpose are no findings.
  const client = connectRedis(server.url, { onError: () => undefined }) as RedisClient;
  return {
    server,
    client,
    [Symbol.asyncDispose]: async () => {
      client.disconnect();
      await server.stop();
      await rm(directory, { recursive: true });
    },
  };
}

const DEFAULTS: SessionStateOptions = { recordTtlMs: 60_000, eventsLength: 1_000, eventsTtlMs: 60_000 };

/** A session that no other test has, with what a test does to it. */
export class SessionFixture {
  readonly sessionId: string;
  readonly state: SessionState;

  constructor(client: RedisClient, options: Partial<SessionStateOptions> = {}) {
    this.sessionId = deriveSessionId("shared", {
      tenant: "default",
      agent: "helper",
      channel: "http",
      conversation: randomUUID(),
    });
    this.state = new SessionState(client, { ...DEFAULTS, ...options });
  }

  message(senderId: string, text = senderId): AcceptedMessage {
    return {
      id: deriveMessageId(this.sessionId, senderId),
      tenant: "default",
      sessionId: this.sessionId,
      agent: "helper",
      channel: "http",
      conversation: "c1",
      sender: { id: "u1" },
      text,
      attachments: [],
      kind: "chat",
      acceptedAt: new Date().toISOString(),
    };
  }

  accept(senderId: string, bound = 100) {
    return this.state.accept(this.message(senderId), bound);
  }

  /** Takes the lease; throws where it is not to be had. */
  async lease(nonce: string = randomUUID(), ttlMs = 60_000): Promise<Lease> {
    const result = await this.state.takeLease(this.sessionId, nonce, "worker-1", ttlMs);
    if (!result.taken) throw new Error(`not taken: ${result.reason}`);
    return result.lease;
  }

  end(senderId: string, outcome: MessageEnd["outcome"] = "answered"): MessageEnd {
    const error = outcome === "dead" ? { code: "AGENT_CRASHED", message: "it crashed" } : undefined;
    return endMessage(this.message(senderId), outcome, error);
  }

  reply(generation: number, index = 0): PublishedReply {
    return {
      index,
      kind: "answer",
      channel: "http",
      conversation: "c1",
      text: `reply ${generation}.${index}`,
      artifacts: [],
      inReplyTo: [],
      id: `reply-${generation}-${index}`,
      sessionId: this.sessionId,
      tenant: "default",
      generation,
      createdAt: new Date().toISOString(),
    };
  }

  async eventTypes(): Promise<string[]> {
    return (await this.state.readEvents(this.sessionId, "0", 1_000)).map(({ event }) => event.type);
  }
}
