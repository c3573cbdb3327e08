import { Readable } from "node:stream";
import type { SessionStore } from "@longshore/session-store";
import type { Artifact, ArtifactLinks, ChannelDefinition, Clock, PublishedReply } from "@longshore/shared";
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
  readonly links: ArtifactLinks;
  /** The address of the dispatchers as the receiver reaches it; without it links are paths. */
  readonly publicUrl: string | undefined;
  readonly clock: Clock;
  /** Connections, shared by all webhooks. */
  readonly dispatcher: Dispatcher;
}

/**
 * Posts replies as JSON to an address, signed. Any status from 200 to 299 means taken; 410 that this reply will never
 * be; everything else, a redirect included, not taken now. The reply's id is the idempotency key: a call may come again
 * after its receiver took it, when the answer was lost. Files are not in the call: it has links to them, from which
 * the receiver reads as much as it likes, as fast as it can.
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

  get unknownOutcome(): Channel["unknownOutcome"] {
    return this.#options.definition.unknownOutcome;
  }

  async deliver(reply: PublishedReply): Promise<Delivered> {
    const { definition, clock, dispatcher } = this.#options;
    const text = await this.#payload(reply);
    const content = Buffer.from(text);
    let isSent = false;
    // Read only when there is a connection to write to: before that, nothing can have been taken.
    const body = new Readable({
      read() {
        isSent = true;
        this.push(content);
        this.push(null);
      },
    });
    const signal = AbortSignal.timeout(definition.timeout);
    try {
      const timestamp = Math.floor(clock.now() / 1000);
      const response = await request(definition.url, {
        method: "POST",
        dispatcher,
        signal,
        headers: {
          "content-type": "application/json",
          "content-length": String(content.length),
          "user-agent": "longshore",
          "idempotency-key": reply.id,
          ...signWebhook(definition.secret, { id: reply.id, timestamp, body: text }),
        },
        body,
      });
      if (response.statusCode < 200 || response.statusCode > 299) {
        // What it says is of no use, and that it can't be read to its end changes nothing.
        await response.body.dump({ limit: ANSWER_MAX_BYTES, signal }).catch(() => undefined);
        throw refusal(response.statusCode, retryAfter(response.headers["retry-after"], clock));
      }
      const platformMessageId = await readId(response.body);
      return platformMessageId === undefined ? {} : { platformMessageId };
    } catch (error) {
      if (error instanceof DeliveryError) throw error;
      const outcome = isSent ? "unknown" : "refused";
      if (signal.aborted)
        throw new DeliveryError(
          "WEBHOOK_TIMEOUT",
          `The webhook did not answer within ${definition.timeout} ms`,
          { outcome, cause: error },
        );
      // The address may hold a password: only what went wrong is told.
      const reason = error instanceof Error && "code" in error ? String(error.code) : "the call failed";
      throw new DeliveryError("WEBHOOK_UNREACHABLE", `The webhook can't be reached: ${reason}`, {
        outcome,
        cause: error,
      });
    } finally {
      body.destroy();
    }
  }

  async #payload(reply: PublishedReply): Promise<string> {
    try {
      const artifacts = await Promise.all(reply.artifacts.map((artifact) => this.#link(reply, artifact)));
      const { index: _index, ...rest } = reply;
      return JSON.stringify({ type: "reply", ...rest, artifacts });
    } catch (error) {
      throw new DeliveryError("LINK_UNAVAILABLE", "A link to a file of the reply can't be made now", {
        outcome: "refused",
        cause: error,
      });
    }
  }

  /** Made for each call: a reply may be tried for longer than a link works. */
  async #link({ tenant, sessionId }: PublishedReply, artifact: Artifact): Promise<object> {
    const { store, links, publicUrl } = this.#options;
    const { id, name, contentType } = artifact;
    const { token, expiresAt } = await links.sign(
      { tenant, sessionId, id, name, contentType },
      LINK_EXPIRES_SECONDS,
    );
    const path = `/artifacts/${token}`;
    const url =
      publicUrl === undefined
        ? await store
            .presignArtifact({ tenant, sessionId }, id, name, {
              contentType,
              expiresSeconds: LINK_EXPIRES_SECONDS,
            })
            // The path leads to the file as well.
            .catch(() => undefined)
        : `${publicUrl}${path}`;
    return { ...artifact, path, ...(url === undefined ? {} : { url }), expiresAt: expiresAt.toISOString() };
  }
}

/** A gateway that got no answer itself does not know either. */
const UNKNOWN_STATUSES: ReadonlySet<number> = new Set([502, 504]);
const GONE = 410;

function refusal(status: number, retryAfterMs: number | undefined): DeliveryError {
  if (status === GONE)
    return new DeliveryError("WEBHOOK_GONE", "The webhook takes this reply never (status 410)", {
      outcome: "refused",
      retryable: false,
    });
  return new DeliveryError("WEBHOOK_STATUS", `The webhook answered with status ${status}`, {
    outcome: UNKNOWN_STATUSES.has(status) ? "unknown" : "refused",
    retryAfterMs,
  });
}

/** In ms: of seconds, or of a date. */
function retryAfter(header: string | string[] | undefined, clock: Clock): number | undefined {
  if (typeof header !== "string") return undefined;
  const ms = /^\d{1,9}$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - clock.now();
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), RETRY_AFTER_MAX_MS);
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
