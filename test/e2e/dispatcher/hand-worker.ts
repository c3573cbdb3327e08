import { randomUUID } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type JsonObject, openBackend, SessionStore } from "@longshore/session-store";
import {
  type AcceptedMessage,
  type Artifact,
  type CommitNote,
  connectRedis,
  deriveReplyId,
  endMessage,
  openReplyWakes,
  type PublishedReply,
  type RedisClient,
  type Reply,
  type ReplyWake,
  SessionState,
  type WakeQueue,
} from "@longshore/shared";

const LEASE_MS = 60_000;

export interface Turn {
  /** What to answer, for each reply; none: an empty turn. */
  readonly replies?: readonly string[];
  /** Files to be written into the session directory, by path. */
  readonly files?: Readonly<Record<string, string>>;
  /** Files of the first reply, by name. */
  readonly artifacts?: Readonly<Record<string, string>>;
  /** Pieces of text that are streamed before the turn ends. */
  readonly text?: readonly string[];
  /** Where the replies go, where not to the conversation of the message. */
  readonly to?: { readonly channel: string; readonly conversation: string };
  /** Leave delivery without a wake, as a worker that dies right after publishing. */
  readonly loseWake?: boolean;
}

/**
 * A worker that does what the test says and nothing by itself: a turn over the real Redis scripts and the real
 * session store, without an agent.
 */
export class HandWorker {
  readonly redis: RedisClient;
  readonly state: SessionState;
  readonly store: SessionStore;
  readonly #replyWakes: WakeQueue<ReplyWake>;
  readonly #slots: string;

  constructor(redisUrl: string, storeUrl: string, slots: string) {
    this.redis = connectRedis(redisUrl, { onError: () => {} });
    this.state = new SessionState(this.redis, {
      recordTtlMs: 3_600_000,
      eventsLength: 1_000,
      eventsTtlMs: 3_600_000,
    });
    this.store = new SessionStore({ backend: openBackend(storeUrl), threads: 1 });
    this.#replyWakes = openReplyWakes(this.redis);
    this.#slots = slots;
  }

  /** Answers the oldest message of a session. */
  async answer(sessionId: string, turn: Turn = {}): Promise<AcceptedMessage> {
    const nonce = randomUUID();
    const taken = await this.state.takeLease(sessionId, nonce, "by-hand", LEASE_MS);
    if (!taken.taken) throw new Error(`the lease is not free: ${taken.reason}`);
    const { lease } = taken;
    const [message] = await this.state.readMailbox(sessionId, 1);
    if (message === undefined) throw new Error("the mailbox is empty");
    const turnId = randomUUID();
    await this.state.startTurn(sessionId, lease, [message.id], turnId);
    for (const text of turn.text ?? [])
      await this.state.addEvents(sessionId, [{ type: "text", turnId, text }]);

    const ref = { tenant: message.tenant, sessionId };
    const directory = join(this.#slots, nonce);
    await mkdir(directory, { recursive: true });
    const copy = await this.store.hydrate(ref, await this.store.readNewest(ref), directory);
    for (const [path, content] of Object.entries(turn.files ?? {})) {
      await mkdir(dirname(join(directory, path)), { recursive: true });
      await writeFile(join(directory, path), content);
    }
    const artifacts: Artifact[] = [];
    for (const [name, content] of Object.entries(turn.artifacts ?? {})) {
      const artifact = {
        id: randomUUID(),
        name,
        contentType: "text/plain",
        sizeBytes: Buffer.byteLength(content),
      };
      await this.store.putArtifact(ref, artifact.id, name, Buffer.from(content), {
        contentType: "text/plain",
      });
      artifacts.push(artifact);
    }
    const to = turn.to ?? { channel: message.channel, conversation: message.conversation };
    const replies: Reply[] = (turn.replies ?? []).map((text, index) => ({
      ...{ index, kind: "answer", ...to, text, artifacts: index === 0 ? artifacts : [] },
      inReplyTo: [message.id],
    }));
    const note: CommitNote = {
      ...{ agent: message.agent, turnId, replies, undelivered: [], recent: [message.id] },
      ends: [endMessage(message, "answered")],
    };
    const committed = await copy.commit(await copy.mirror(), {
      ...{ epoch: lease.epoch, nonce, worker: "by-hand", kind: "turn" },
      note: note as unknown as JsonObject,
    });
    copy.close();
    await rm(directory, { recursive: true });
    if (committed.outcome !== "committed") throw new Error("somebody else committed");
    const { commit } = committed;
    const published: PublishedReply[] = replies.map((reply) => ({
      ...{ ...reply, ...ref, id: deriveReplyId(sessionId, commit.id, reply.index) },
      ...{ generation: commit.generation, createdAt: commit.time },
    }));
    await this.state.publish(sessionId, lease, {
      ...{ generation: commit.generation, replies: published, ends: note.ends },
    });
    if (published.length > 0 && !turn.loseWake) await this.#replyWakes.wake({ sessionId, ...to });
    await this.state.releaseLease(sessionId, lease, { generation: commit.generation, handBack: true });
    return message;
  }

  /** Gives the oldest message of a session up, without a notice. */
  async refuse(sessionId: string, error: { readonly code: string; readonly message: string }): Promise<void> {
    const nonce = randomUUID();
    const taken = await this.state.takeLease(sessionId, nonce, "by-hand", LEASE_MS);
    const [message] = await this.state.readMailbox(sessionId, 1);
    if (!taken.taken || message === undefined) throw new Error("there is nothing to refuse");
    const { lease } = taken;
    const ref = { tenant: message.tenant, sessionId };
    const note: CommitNote = {
      ...{ agent: message.agent, replies: [], undelivered: [], recent: [message.id] },
      ends: [endMessage(message, "dead", error)],
    };
    const { commit } = await this.store.commitUnchanged(ref, await this.store.readNewest(ref), {
      ...{ epoch: lease.epoch, nonce, worker: "by-hand", kind: "turn" },
      note: note as unknown as JsonObject,
    });
    const { generation } = commit;
    await this.state.publish(sessionId, lease, { generation, replies: [], ends: note.ends });
    await this.state.releaseLease(sessionId, lease, { generation, handBack: true });
  }

  async close(): Promise<void> {
    await this.#replyWakes.close();
    this.redis.disconnect();
    await this.store.close();
  }
}
