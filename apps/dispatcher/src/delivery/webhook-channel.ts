import type { SessionStore } from "@longshore/session-store";
import type { ChannelDefinition, Clock, PublishedReply } from "@longshore/shared";
import { type Dispatcher, request } from "undici";
import { type Channel, type Delivered, DeliveryError } from "./channel.ts";
import { signWebhook } from "./webhook-signature.ts";

/** The answer is read so far, for the platform's id of the message. */
const ANSWER_MAX_BYTES = 64 * 1024;
const ANSWER_ID_MAX_LENGTH = 256;
const LINK_EXPIRES_SECONDS = 24 * 3_600;
/** The longest that a receiver may put the next call off. */
const RETRY_AFTER_MAX_MS = 300_000;

export type WebhookDefinition = Extract<ChannelDefinition, { type: "webhook" }>;

export interface WebhookChannelOptions {
  readonly definition: WebhookDefinition;
  readonly store: SessionStore;
  readonly clock: Clock;
  /** Connections, shared by all webhooks. */
  readonly dispatcher: Dispatcher;
}

/**
 * Posts replies as JSON to an address, signed. Any status from 200 to 299 means taken; everything else, a
 * redirect included, means not taken. The reply's id is the idempotency key: a call may come again after
 * its receiver took it, when the answer was lost.
 */
export class WebhookChannel implements Channel {
  readonly #options: WebhookChannelOptions;

  constructor(options: WebhookChannelOptions) {
    this.#options = options;
  }

  get retry(): Channel["retry"] {
    const { backoff, longest, giveUp } = this.#options.definition.retry;
    return { firstMs: backoff, longestMs: longest, giveUpMs: giveUp };
  }

  async deliver(reply: PublishedReply): Promise<Delivered> {
    const { definition, clock, dispatcher } = this.#options;
    const signal = AbortSignal.timeout(definition.timeout);
    try {
      const body = JSON.stringify(await this.#payload(reply));
      const timestamp = Math.floor(clock.now() / 1000);
      const response = await request(definition.url, {
        method: "POST",
        dispatcher,
        signal,
        headers: {
          "content-type": "application/json",
          "user-agent": "longshore",
          "idempotency-key": reply.id,
          ...signWebhook(definition.secret, { id: reply.id, timestamp, body }),
        },
        body,
      });
      if (response.statusCode < 200 || response.statusCode > 299) {
        await response.body.dump({ limit: ANSWER_MAX_BYTES, signal });
        throw new DeliveryError("WEBHOOK_STATUS", `The webhook answered with status ${response.statusCode}`, {
          retryAfterMs: retryAfter(response.headers["retry-after"]),
        });
      }
      const platformMessageId = await readId(response.body);
      return platformMessageId === undefined ? {} : { platformMessageId };
    } catch (error) {
      if (error instanceof DeliveryError) throw error;
      if (signal.aborted)
        throw new DeliveryError(
          "WEBHOOK_TIMEOUT",
          `The webhook did not answer within ${definition.timeout} ms`,
          {
            cause: error,
          },
        );
      // The address may hold a password: only what went wrong is told.
      const reason = error instanceof Error && "code" in error ? String(error.code) : "the call failed";
      throw new DeliveryError("WEBHOOK_UNREACHABLE", `The webhook can't be reached: ${reason}`, {
        cause: error,
      });
    }
  }

  async #payload(reply: PublishedReply): Promise<object> {
    const ref = { tenant: reply.tenant, sessionId: reply.sessionId };
    const artifacts = await Promise.all(
      reply.artifacts.map(async (artifact) => {
        const { id, name, contentType } = artifact;
        const url = await this.#options.store
          .presignArtifact(ref, id, name, { contentType, expiresSeconds: LINK_EXPIRES_SECONDS })
          // A link that can't be made does not hold the reply back.
          .catch(() => undefined);
        return url === undefined ? artifact : { ...artifact, url };
      }),
    );
    const { index: _index, ...rest } = reply;
    return { type: "reply", ...rest, artifacts };
  }
}

function retryAfter(header: string | string[] | undefined): number | undefined {
  if (typeof header !== "string" || !/^\d{1,6}$/.test(header)) return undefined;
  return Math.min(Number(header) * 1_000, RETRY_AFTER_MAX_MS);
}

/** The `id` of a JSON answer; whatever else comes is no reason to send the reply again. */
async function readId(body: Dispatcher.ResponseData["body"]): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > ANSWER_MAX_BYTES) return undefined;
      chunks.push(chunk);
    }
    const answer: unknown = JSON.parse(Buffer.concat(chunks).toString("utf8"));
    if (answer === null || typeof answer !== "object" || !("id" in answer)) return undefined;
    return typeof answer.id === "string" ? answer.id.slice(0, ANSWER_ID_MAX_LENGTH) : undefined;
  } catch {
    return undefined;
  }
}
