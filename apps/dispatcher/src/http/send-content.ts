import { Readable } from "node:stream";
import type { ByteRange } from "@longshore/session-store";
import type { FastifyReply, FastifyRequest } from "fastify";
import { ApiError } from "./api-error.ts";
import { parseRange } from "./byte-range.ts";
import { type Download, downloadHeaders } from "./download.ts";
import { isNamed } from "./entity-tag.ts";
import { sendRaw } from "./route-parts.ts";

/** Stored content as it is to be sent. */
export interface SentContent extends Download {
  /** Strong: equal only for the same bytes. */
  readonly entityTag: string;
  /** Bytes of it, or of a part. Called at most once, and not at all where no content is sent. */
  read(range: ByteRange | undefined): AsyncIterable<Buffer> | Promise<AsyncIterable<Buffer>>;
}

/**
 * Answers GET and HEAD for stored content (RFC 9110): 200, 206 for one range, 304 where `If-None-Match` knows it
 * already. Several ranges at once, and `If-Range` with anything but the entity tag, give the whole.
 *
 * @throws ApiError `RANGE_NOT_SATISFIABLE`; what `read` throws
 */
export async function sendContent(
  request: FastifyRequest,
  reply: FastifyReply,
  content: SentContent,
): Promise<FastifyReply> {
  const { entityTag, sizeBytes } = content;
  const { range, "if-none-match": ifNoneMatch, "if-range": ifRange } = request.headers;
  const common = { etag: entityTag, "accept-ranges": "bytes", "cache-control": "private, no-cache" };
  if (isNamed(ifNoneMatch, entityTag)) return reply.code(304).headers(common).send();

  const applies = request.method === "GET" && (ifRange === undefined || ifRange === entityTag);
  const wanted = parseRange(applies ? range : undefined, sizeBytes);
  if (wanted.kind === "unsatisfiable") {
    reply.header("content-range", `bytes */${sizeBytes}`);
    throw new ApiError(416, "RANGE_NOT_SATISFIABLE", `The content has ${sizeBytes} bytes`);
  }
  const { start, end } = wanted.kind === "part" ? wanted.range : { start: 0, end: sizeBytes };
  const headers = { ...common, ...downloadHeaders(content), "content-length": String(end - start) };
  if (request.method === "HEAD") return reply.headers(headers).send();
  // Opened before the answer begins: a failure can still be said by its status.
  const bytes = await content.read(wanted.kind === "part" ? wanted.range : undefined);
  reply.headers(headers);
  if (wanted.kind === "part")
    reply.code(206).header("content-range", `bytes ${start}-${end - 1}/${sizeBytes}`);
  return sendRaw(reply, Readable.from(bytes, { objectMode: false }));
}
