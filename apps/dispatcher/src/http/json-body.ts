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
  /** Bytes of all bodies that are read at once. @default 1 GiB */
  readonly budgetBytes?: number;
}

/**
 * Reads JSON bodies. A body is held in memory, so all that are read at once share a budget: who comes when it
 * is spent is sent away for a moment, before a byte of the body was read.
 */
export class JsonBodies {
  readonly #limit: (request: FastifyRequest) => number;
  readonly #budgetBytes: number;
  #reservedBytes = 0;

  constructor({ limit, budgetBytes = 1024 ** 3 }: JsonBodiesOptions) {
    this.#limit = limit;
    this.#budgetBytes = budgetBytes;
  }

  async read(request: FastifyRequest, payload: IncomingMessage): Promise<unknown> {
    const limit = this.#limit(request);
    const announced = Number(request.headers["content-length"] ?? Number.NaN);
    if (announced > limit) throw tooLarge(limit);
    const reserved = Number.isNaN(announced) ? limit : announced;
    // One body alone always has room, or a large limit could never be used.
    if (this.#reservedBytes > 0 && this.#reservedBytes + reserved > this.#budgetBytes)
      throw new ApiError(503, "BUSY", "Too many large bodies at once", { retryAfterSeconds: 1 });
    this.#reservedBytes += reserved;
    try {
      return parse(await collect(payload, limit));
    } finally {
      this.#reservedBytes -= reserved;
    }
  }
}

async function collect(payload: IncomingMessage, limit: number): Promise<string> {
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
    return new TextDecoder("utf-8", { fatal: true }).decode(text);
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
