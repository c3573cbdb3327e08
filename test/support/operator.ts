import { once } from "node:events";
import { openBackend, SessionStore } from "@longshore/session-store";
import {
  connectRedis,
  deriveMessageId,
  deriveSessionId,
  eventsChannel,
  type MessageRecord,
  type Operation,
  openTurnWakes,
  SessionState,
} from "@longshore/shared";
import type { Fleet } from "./fleet.ts";

/** A fleet's tenant and agent, as `Fleet` configures them. */
const ORIGIN = { tenant: "acme", agent: "shell", channel: "http" } as const;
const BOUND = 1_000;

/** What a submitted operation came to. */
export interface Submitted {
  readonly messageId: string;
  readonly sessionId: string;
  readonly duplicate: boolean;
}

/** A file to upload. */
export interface Upload {
  readonly path: string;
  readonly content: string | Buffer;
  readonly mode?: number;
  readonly modifiedAt?: string;
}

/** Submits operations to the sessions of a fleet, and looks into its object store. */
export class Operator implements AsyncDisposable {
  readonly store: SessionStore;
  readonly backend: ReturnType<typeof openBackend>;
  readonly #redis: ReturnType<typeof connectRedis>;
  readonly #subscriber: ReturnType<typeof connectRedis>;
  readonly #wakes: ReturnType<typeof openTurnWakes>;
  readonly #state: SessionState;

  constructor({ environment, redis }: Fleet) {
    this.backend = openBackend(environment.OBJECT_STORE_URL as string, {
      ...(environment.S3_ENDPOINT === undefined ? {} : { endpoint: environment.S3_ENDPOINT }),
      forcePathStyle: true,
      region: environment.AWS_REGION ?? "us-east-1",
    });
    this.store = new SessionStore({ backend: this.backend, threads: 1 });
    const onError = () => undefined;
    this.#redis = connectRedis(redis.url, { onError });
    this.#subscriber = connectRedis(redis.url, { onError });
    this.#wakes = openTurnWakes(this.#redis);
    this.#wakes.queue.on("error", onError);
    this.#state = new SessionState(this.#redis, {
      recordTtlMs: 3_600_000,
      eventsLength: 1_000,
      eventsTtlMs: 3_600_000,
    });
  }

  /** The session of a conversation. */
  session(conversation: string): { readonly tenant: string; readonly sessionId: string } {
    const { tenant } = ORIGIN;
    return { tenant, sessionId: deriveSessionId("per-thread", { ...ORIGIN, conversation }) };
  }

  /** Accepts an operation as the dispatcher does, and does not wait for it. */
  async submit(conversation: string, id: string, operation: Operation): Promise<Submitted> {
    const { sessionId } = this.session(conversation);
    const messageId = deriveMessageId(sessionId, id);
    const accepted = {
      ...ORIGIN,
      id: messageId,
      sessionId,
      conversation,
      sender: { id: "operator" },
      text: "",
      kind: "system" as const,
      attachments: [],
      acceptedAt: new Date().toISOString(),
      operation,
    };
    const { duplicate, leased } = await this.#state.accept(accepted, BOUND);
    if (!leased) await this.#wakes.wake({ sessionId });
    return { messageId, sessionId, duplicate };
  }

  /** Stores files, and submits their upload. */
  async submitUpload(
    conversation: string,
    id: string,
    files: readonly Upload[],
    remove: string[] = [],
  ): Promise<Submitted> {
    const set = [];
    for (const { content, ...file } of files) {
      set.push({
        ...file,
        ...(await this.store.putInbound(this.session(conversation), Buffer.from(content))),
      });
    }
    return await this.submit(conversation, id, { type: "upload", set, remove });
  }

  /** The record of a message once it has ended. */
  async ended({ messageId, sessionId }: Pick<Submitted, "messageId" | "sessionId">): Promise<MessageRecord> {
    await this.#subscriber.subscribe(eventsChannel(sessionId));
    for (;;) {
      const event = once(this.#subscriber, "message");
      const record = await this.#state.readMessage(messageId);
      if (record !== undefined && ["answered", "dead"].includes(record.state)) return record;
      await event;
    }
  }

  /** Stores files, uploads them, and waits for what comes of it. */
  async upload(
    conversation: string,
    id: string,
    files: readonly Upload[],
    remove?: string[],
  ): Promise<MessageRecord> {
    return await this.ended(await this.submitUpload(conversation, id, files, remove));
  }

  async rollback(conversation: string, id: string, generation: number): Promise<MessageRecord> {
    return await this.ended(await this.submit(conversation, id, { type: "rollback", generation }));
  }

  /** The published files of a conversation's session, by path. */
  async published(conversation: string): Promise<Record<string, string>> {
    const prefix = `${ORIGIN.tenant}/published/${this.session(conversation).sessionId}/`;
    const { objects } = await this.backend.list(prefix, {});
    const contents = objects.map(async ({ key }) => {
      return [key.slice(prefix.length), (await this.backend.get(key, {})).toString()];
    });
    return Object.fromEntries(await Promise.all(contents));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#wakes.close();
    this.#redis.disconnect();
    this.#subscriber.disconnect();
    await this.store.close();
  }
}
