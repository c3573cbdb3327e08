import type { IncomingMessage } from "node:http";
import type { Configuration } from "@longshore/shared";
import type { FastifyRequest } from "fastify";
import { ApiError } from "./api-error.ts";

/** Longest text that V8 can hold, with room to spare: no body can be longer, whatever the agents' limits. */
const BODY_MAX_BYTES = 500 * 1024 ** 2;
/** So much of a body that is too large is still read, so that its sender gets to the answer. */
const DISCARDED_MAX_BYTES = 64 * 1024 ** 2;
/** What a body may have beside text and attachments. */
const FRAME_BYTES = 64 * 1024;
const FRAME_BYTES_PER_ATTACHMENT = 4 * 1024;
/** JSON may write a byte as `\u0000`. */
const ESCAPED = 6;
/** A JSON body has to be there within this, in ms: it is held in memory while it comes. */
const ARRIVAL_TIMEOUT_MS = 300_000;
const BASE64 = 4 / 3;

/** The longest body that can hold a message which one of the tenant's agents takes, in bytes. */
export function bodyLimit({ agents }: Configuration, tenant: string | undefined): number {
  let limit = FRAME_BYTES;
  for (const { tenant: owner, limits } of Object.values(agents)) {
    if (owner !== tenant) continue;
    const attachments = limits.attachmentBytes * BASE64 + limits.attachments * FRAME_BYTES_PER_ATTACHMENT;
    limit = Math.max(limit, FRAME_BYTES + limits.message * ESCAPED + attachments);
  }
  return Math.min(Math.ceil(limit), BODY_MAX_BYTES);
}

export interface JsonBodiesOptions {
  readonly limit: (request: FastifyRequest) => number;
  /** Bytes of all bodies that are there at once. @default 1 GiB */
  readonly budgetBytes?: number;
}

/**
 * Reads JSON bodies. A body is held in memory, so all that are there at once share a budget: who comes when it
 * is spent is sent away for a moment, before a byte of the body was read. It counts until its request was answered, or
 * whoever took it over needs it no more.
 */
export class JsonBodies {
  readonly #limit: (request: FastifyRequest) => number;
  readonly #budgetBytes: number;
  readonly #held = new WeakMap<FastifyRequest, number>();
  #reservedBytes = 0;

  constructor({ limit, budgetBytes = 1024 ** 3 }: JsonBodiesOptions) {
    this.#limit = limit;
    this.#budgetBytes = budgetBytes;
  }

  async read(request: FastifyRequest, payload: IncomingMessage): Promise<unknown> {
    const limit = this.#limit(request);
    const announced = Number(request.headers["content-length"] ?? Number.NaN);
    if (announced > limit) throw tooLarge(limit);
    let reserved = Number.isNaN(announced) ? limit : announced;
    // One body alone always has room, or a large limit could never be used.
    if (this.#reservedBytes > 0 && this.#reservedBytes + reserved > this.#budgetBytes)
      throw new ApiError(503, "BUSY", "Too many large bodies at once", { retryAfterSeconds: 1 });
    this.#reservedBytes += reserved;
    try {
      const { text, bytes } = await collect(payload, limit);
      const body = parse(text);
      // A connection that has ended while the rest was read ends no more.
      if (!request.raw.socket.destroyed) {
        this.#held.set(request, bytes);
        reserved -= bytes;
      }
      return body;
    } finally {
      this.#reservedBytes -= reserved;
    }
  }

  /** Makes a request's body the caller's, whether it is answered or not. Gives what to call, once, when that is not needed any more. */
  takeOver(request: FastifyRequest): () => void {
    const bytes = this.#held.get(request) ?? 0;
    this.#held.delete(request);
    return () => {
      this.#reservedBytes -= bytes;
    };
  }

  /** The request was answered, or its connection has ended. */
  release(request: FastifyRequest): void {
    this.takeOver(request)();
  }
}

async function collect(
  payload: IncomingMessage,
  limit: number,
): Promise<{ readonly text: string; readonly bytes: number }> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const late = setTimeout(() => payload.destroy(), ARRIVAL_TIMEOUT_MS);
  using _ = { [Symbol.dispose]: () => clearTimeout(late) };
  // Not ended with the loop: the refusal still has to be sent on the same connection.
  for await (const chunk of payload.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes <= limit) chunks.push(chunk);
    // Many clients read the answer only after they have sent all: the rest is read, and goes nowhere.
    else if (bytes > limit + DISCARDED_MAX_BYTES) break;
    else chunks.length = 0;
  }
  if (bytes > limit) throw tooLarge(limit);
  const text = Buffer.concat(chunks);
  try {
    return { text: new TextDecoder("utf-8", { fatal: true }).decode(text), bytes };
  } catch (cause) {
    throw new ApiError(400, "MALFORMED_JSON", "The body is not UTF-8", { cause });
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    // V8's own message quotes the body, which may hold anything.
    throw new ApiError(400, "MALFORMED_JSON", "The body is not JSON", { cause });
  }
}

function tooLarge(limit: number): ApiError {
  return new ApiError(413, "BODY_TOO_LARGE", `The body is larger than ${limit} bytes`);
}
