import { setTimeout as delay } from "node:timers/promises";
import { inboundJobSchema, QUEUE_PREFIX, queueNames } from "@longshore/shared";
import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { z } from "zod";
import type { SeededRandom } from "./seeded-random.ts";

const acceptedSchema = z.object({
  messageId: z.string(),
  seq: z.number().nullable(),
  duplicate: z.boolean(),
});
const stateSchema = z.object({ state: z.string() });
const cancelledSchema = z.object({ messageIds: z.array(z.string()) });
const schedulesSchema = z.object({ schedules: z.array(z.object({ id: z.string() })) });

/** A dispatcher that does not answer is one that has gone. */
const ANSWER_LIMIT_MS = 20_000;
/** The session is at work, or has no room. */
const REFUSED_FOR_NOW = new Set([409, 429]);
/** Between two tries of what has to come about. */
const AGAIN_MS = 150;

export const TENANT = "acme";
export const CHANNEL = "hook";

export type Posted =
  | { readonly outcome: "accepted"; readonly answer: z.output<typeof acceptedSchema> }
  | { readonly outcome: "again" }
  | { readonly outcome: "refused"; readonly why: string };

export interface WaysInOptions {
  /** Addresses of the dispatchers that are up; may be none for a while. */
  readonly addresses: () => readonly string[];
  readonly key: string;
  readonly redisUrl: string;
}

/** How clients reach a fleet: through any of its dispatchers, and as producers of jobs. */
export class WaysIn implements AsyncDisposable {
  readonly #options: WaysInOptions;
  readonly #redis: Redis;
  readonly #inbound: Queue;

  constructor(options: WaysInOptions) {
    this.#options = options;
    this.#redis = new Redis(options.redisUrl, { maxRetriesPerRequest: null });
    // It comes back by itself.
    this.#redis.on("error", () => undefined);
    this.#inbound = new Queue(queueNames.inbound, { connection: this.#redis, prefix: QUEUE_PREFIX });
    this.#inbound.on("error", () => undefined);
  }

  /** Sends a message to one of the dispatchers. */
  async post(body: object, random: SeededRandom): Promise<Posted> {
    const answer = await this.#call("POST", "/v1/messages", random, body);
    if (answer === undefined || answer.status >= 500 || REFUSED_FOR_NOW.has(answer.status))
      return { outcome: "again" };
    const accepted = acceptedSchema.safeParse(answer.body);
    if (answer.status === 202 && accepted.success) return { outcome: "accepted", answer: accepted.data };
    return { outcome: "refused", why: `${answer.status} ${JSON.stringify(answer.body)}` };
  }

  /** Adds a message to the queue `inbound`; is back when Redis has it, however long that takes. */
  async enqueue(body: object): Promise<void> {
    const job = inboundJobSchema.parse({ tenant: TENANT, ...body });
    await this.#inbound.add("message", job, { removeOnComplete: true });
  }

  /** Undefined where that is not known now. */
  async stateOf(messageId: string, random: SeededRandom): Promise<string | undefined> {
    const answer = await this.#call("GET", `/v1/messages/${messageId}`, random);
    return stateSchema.safeParse(answer?.body).data?.state;
  }

  /** Cancels the turn that runs; gives its messages, or "unknown" where it may have been cancelled. */
  async cancel(sessionId: string, random: SeededRandom): Promise<readonly string[] | "unknown"> {
    const answer = await this.#call("POST", `/v1/sessions/${sessionId}/cancel`, random, {});
    if (answer === undefined || answer.status >= 500) return "unknown";
    return answer.status === 202 ? cancelledSchema.parse(answer.body).messageIds : [];
  }

  /** Makes a schedule that is due each minute, or makes sure that it is there. */
  async schedule(id: string, message: object, random: SeededRandom): Promise<void> {
    await this.#insist(async () => {
      const answer = await this.#call("POST", "/v1/schedules", random, { id, cron: "* * * * *", message });
      return answer !== undefined && answer.status < 300;
    });
  }

  async unschedule(id: string, random: SeededRandom): Promise<void> {
    await this.#insist(async () => {
      await this.#call("DELETE", `/v1/schedules/${id}`, random);
      const answer = await this.#call("GET", "/v1/schedules", random);
      return schedulesSchema.safeParse(answer?.body).data?.schedules.every((one) => one.id !== id) ?? false;
    });
  }

  /** Until it has come about: a fleet that is harmed refuses much. */
  async #insist(attempt: () => Promise<boolean>): Promise<void> {
    const limit = AbortSignal.timeout(ANSWER_LIMIT_MS);
    while (!limit.aborted && !(await attempt())) await delay(AGAIN_MS);
  }

  /** Undefined where there was no whole answer. */
  async #call(
    method: "GET" | "POST" | "DELETE",
    path: string,
    random: SeededRandom,
    body?: object,
  ): Promise<{ readonly status: number; readonly body: unknown } | undefined> {
    const addresses = this.#options.addresses();
    if (addresses.length === 0) return undefined;
    try {
      const response = await fetch(`${random.pick(addresses)}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${this.#options.key}`,
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(ANSWER_LIMIT_MS),
      });
      const text = await response.text();
      return { status: response.status, body: text === "" ? undefined : parseJson(text) };
    } catch {
      return undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#redis.disconnect();
    await this.#inbound.close().catch(() => undefined);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
