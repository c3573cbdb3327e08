import { createHash } from "node:crypto";
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { finished, Readable } from "node:stream";
import {
  DeleteObjectsCommand,
  GetObjectCommand,
  type GetObjectCommandOutput,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type PutObjectCommandOutput,
  S3Client,
  type S3ClientConfig,
  type ServerSideEncryption,
} from "@aws-sdk/client-s3";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import {
  AmbiguousPutError,
  CorruptObjectError,
  ObjectNotFoundError,
  StoreAccessDeniedError,
  StoreRequestRefusedError,
  StoreUnavailableError,
} from "../errors.ts";
import { ReceivedGarbage } from "../received-garbage.ts";
import { DEFAULT_RETRY, type RetryPolicy, retrying } from "../retry.ts";
import {
  type Backend,
  type BackendOperation,
  type Content,
  contentSize,
  type GetOptions,
  type Listing,
  type ListOptions,
  type ObjectInfo,
  type PresignOptions,
  type PutAnswer,
  type PutOptions,
  type RequestObserver,
  type RequestOutcome,
} from "./backend.ts";
import { openContent } from "./open-content.ts";
import { RangeReader, type RangeRequest } from "./range-reader.ts";
import { receiveTogether } from "./receive-together.ts";

export interface S3BackendOptions {
  /** Address of the server. @default Amazon's, by region */
  readonly endpoint?: string | undefined;
  /** `https://server/bucket/key` instead of `https://bucket.server/key`. @default false */
  readonly forcePathStyle?: boolean | undefined;
  /** @default the SDK's own search (AWS_REGION, profile) */
  readonly region?: string | undefined;
  /** @default the SDK's own search (AWS_*, profile, instance role), renewed before they expire */
  readonly credentials?: S3ClientConfig["credentials"] | undefined;
  /** Certificate authority in PEM for a server with a certificate of one's own. @default Node's */
  readonly certificateAuthority?: string | undefined;
  /** Asked of the server for every object that is put. @default the bucket's own setting */
  readonly serverSideEncryption?:
    | { readonly algorithm: ServerSideEncryption; readonly keyId?: string }
    | undefined;
  /** Connections at once. More wait. @default 64 */
  readonly connections?: number | undefined;
  /** Longest time for a request and its answer in ms, to which 1 ms per KiB of content is added. @default 20,000 */
  readonly timeoutMs?: number | undefined;
  /** For reads, lists and deletes. @default DEFAULT_RETRY */
  readonly retry?: RetryPolicy | undefined;
  readonly onRequest?: RequestObserver | undefined;
  readonly random?: (() => number) | undefined;
}

const CONNECT_TIMEOUT_MS = 5_000;
/** The SDK would write to the console what its caller is told as an error. */
const SILENT = { debug: ignore, info: ignore, warn: ignore, error: ignore };

const LIST_LIMIT = 1000;
/** Pages in a row that may hold nothing and say that there is more. */
const EMPTY_PAGES_MAX = 100;
const DELETE_LIMIT = 1000;

/**
 * Objects of a bucket of Amazon S3 or of a server that speaks its API.
 *
 * The SDK's own retries are off: a conditional put that it repeats after a lost answer meets its own object and says
 * that somebody else won. Its checksums are off where the protocol does not require them, because they make it send
 * bodies without a length, in chunks with trailers, which several servers refuse.
 */
export class S3Backend implements Backend {
  readonly url: string;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #client: S3Client;
  readonly #timeoutMs: number;
  readonly #retry: RetryPolicy;
  readonly #random: () => number;
  readonly #onRequest: RequestObserver;
  readonly #ranges: RangeReader;
  readonly #garbage = new ReceivedGarbage();
  readonly #encryption: S3BackendOptions["serverSideEncryption"];

  /** @param prefix without slashes at its ends; empty for the whole bucket */
  constructor(bucket: string, prefix: string, options: S3BackendOptions = {}) {
    this.url = `s3://${bucket}${prefix === "" ? "" : `/${prefix}`}`;
    this.#bucket = bucket;
    this.#prefix = prefix === "" ? "" : `${prefix}/`;
    this.#timeoutMs = options.timeoutMs ?? 20_000;
    this.#retry = options.retry ?? DEFAULT_RETRY;
    this.#random = options.random ?? Math.random;
    this.#onRequest = options.onRequest ?? (() => undefined);
    this.#encryption = options.serverSideEncryption;
    const { connections = 64, certificateAuthority } = options;
    this.#ranges = new RangeReader({ connections, certificateAuthority });
    const agent = { keepAlive: true, maxSockets: connections, onread: receiveTogether() };
    this.#client = new S3Client({
      maxAttempts: 1,
      logger: SILENT,
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
      forcePathStyle: options.forcePathStyle ?? false,
      ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
      ...(options.region === undefined ? {} : { region: options.region }),
      ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
      requestHandler: new NodeHttpHandler({
        connectionTimeout: CONNECT_TIMEOUT_MS,
        httpAgent: new HttpAgent(agent),
        httpsAgent: new HttpsAgent(
          certificateAuthority === undefined ? agent : { ...agent, ca: certificateAuthority },
        ),
      }),
    });
    this.#client.middlewareStack.add(
      (next) => async (args) => {
        const result = await next(args);
        const { response } = result;
        if (isWithHeaders(response) && result.output)
          Object.assign(result.output.$metadata, { date: response.headers.date });
        return result;
      },
      { step: "deserialize", priority: "high", name: "longshoreStoreTime" },
    );
  }

  get(key: string, options: GetOptions = {}): Promise<Buffer> {
    const { range, into } = options;
    if (range !== undefined && range.end <= range.start) return Promise.resolve(Buffer.alloc(0));
    const expected = range === undefined ? 0 : range.end - range.start;
    return this.#retried("get", key, expected, options.signal, async (signal, count) => {
      const command = new GetObjectCommand({
        Bucket: this.#bucket,
        Key: this.#prefix + key,
        ...(range === undefined ? {} : { Range: `bytes=${range.start}-${range.end - 1}` }),
      });
      const answer = await this.#sendGet(command, into, signal);
      if (Buffer.isBuffer(answer)) {
        count.received = expected;
        return answer;
      }
      const { Body: body, ContentLength: length } = answer;
      if (!(body instanceof Readable) || length === undefined)
        throw new Error("the answer has no body or no length");
      // A server that ignores Range gives the whole object, which may be anything long.
      if (range !== undefined && length > expected) {
        body.destroy();
        throw new StoreRequestRefusedError(
          "get",
          key,
          new Error(`${length} bytes were given for ${expected}`),
        );
      }
      count.received = length;
      if (range !== undefined && length < expected) {
        throw new CorruptObjectError(
          key,
          `ends after ${range.start + length} bytes, ${range.end} are needed`,
        );
      }
      // Not out of Node's pool: its memory is handed to a thread as it is.
      return await readBody(body, into ?? Buffer.allocUnsafeSlow(length), this.#garbage, signal);
    });
  }

  async putIfAbsent(key: string, content: Content, options: PutOptions = {}): Promise<PutAnswer> {
    const size = contentSize(content);
    return await this.#once("put", key, size, options.signal, async (signal, count) => {
      count.sent = size;
      try {
        const answer = await this.#sendPut(key, content, options, { IfNoneMatch: "*" }, signal);
        return { outcome: "created", storeTimeMs: storeTimeOf(answer.$metadata) };
      } catch (error) {
        if (statusOf(error) !== 412) throw error;
        count.exists = true;
        return { outcome: "exists", storeTimeMs: storeTimeOfError(error) };
      }
    });
  }

  replace(key: string, content: Content, options: PutOptions = {}): Promise<void> {
    const size = contentSize(content);
    return this.#retried("put", key, size, options.signal, async (signal, count) => {
      count.sent = size;
      await this.#sendPut(key, content, options, {}, signal);
    });
  }

  async list(prefix: string, options: ListOptions = {}): Promise<Listing> {
    const limit = Math.min(options.limit ?? LIST_LIMIT, LIST_LIMIT);
    let listing = await this.#listPage(prefix, limit, options, undefined);
    // A server may give less than was asked for, even nothing, and say that there is more: nothing would be no session.
    let emptyPages = 0;
    while (listing.token !== undefined) {
      const found = listing.objects.length + listing.groups.length;
      if (found >= limit) break;
      const next = await this.#listPage(prefix, limit - found, options, listing.token);
      const isEmpty = next.objects.length + next.groups.length === 0;
      emptyPages = isEmpty ? emptyPages + 1 : 0;
      if (emptyPages === EMPTY_PAGES_MAX) {
        throw new StoreRequestRefusedError("list", prefix, new Error(`${emptyPages} pages hold nothing`));
      }
      const { storeTimeMs } = listing;
      const objects = [...listing.objects, ...next.objects];
      listing = { ...next, objects, groups: [...listing.groups, ...next.groups], storeTimeMs };
    }
    const { objects, groups, more, storeTimeMs } = listing;
    return { objects, groups, more, storeTimeMs };
  }

  #listPage(
    prefix: string,
    limit: number,
    options: ListOptions,
    token: string | undefined,
  ): Promise<Listing & { readonly token: string | undefined }> {
    return this.#retried("list", prefix, 0, options.signal, async (signal) => {
      const answer = await this.#client.send(
        new ListObjectsV2Command({
          Bucket: this.#bucket,
          Prefix: this.#prefix + prefix,
          MaxKeys: limit,
          ...(options.startAfter === undefined ? {} : { StartAfter: this.#prefix + options.startAfter }),
          ...(options.grouped === true ? { Delimiter: "/" } : {}),
          ...(token === undefined ? {} : { ContinuationToken: token }),
        }),
        { abortSignal: signal },
      );
      return {
        objects: (answer.Contents ?? []).map((object) => ({
          key: (object.Key ?? "").slice(this.#prefix.length),
          sizeBytes: object.Size ?? 0,
          modifiedMs: object.LastModified?.getTime() ?? 0,
        })),
        groups: (answer.CommonPrefixes ?? []).map((group) => (group.Prefix ?? "").slice(this.#prefix.length)),
        more: answer.IsTruncated ?? false,
        storeTimeMs: storeTimeOf(answer.$metadata),
        token: answer.IsTruncated === true ? answer.NextContinuationToken : undefined,
      };
    });
  }

  async delete(keys: readonly string[], options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    for (let start = 0; start < keys.length; start += DELETE_LIMIT) {
      const batch = keys.slice(start, start + DELETE_LIMIT);
      await this.#retried("delete", batch[0] ?? "", 0, options.signal, async (signal) => {
        const answer = await this.#client.send(
          new DeleteObjectsCommand({
            Bucket: this.#bucket,
            Delete: { Objects: batch.map((key) => ({ Key: this.#prefix + key })), Quiet: true },
          }),
          { abortSignal: signal },
        );
        const failed = answer.Errors?.[0];
        if (failed !== undefined) throw new Error(`${failed.Key}: ${failed.Code} ${failed.Message}`);
      });
    }
  }

  head(key: string, options: { readonly signal?: AbortSignal } = {}): Promise<ObjectInfo | undefined> {
    return this.#retried("head", key, 0, options.signal, async (signal) => {
      const answer = await this.#client.send(
        new HeadObjectCommand({ Bucket: this.#bucket, Key: this.#prefix + key }),
        { abortSignal: signal },
      );
      return { sizeBytes: answer.ContentLength ?? 0, modifiedMs: answer.LastModified?.getTime() ?? 0 };
    }).catch((error: unknown) => {
      if (error instanceof ObjectNotFoundError) return undefined;
      throw error;
    });
  }

  presignGet(key: string, options: PresignOptions): Promise<string> {
    return getSignedUrl(
      this.#client,
      new GetObjectCommand({
        Bucket: this.#bucket,
        Key: this.#prefix + key,
        ...(options.contentType === undefined ? {} : { ResponseContentType: options.contentType }),
        ...(options.contentDisposition === undefined
          ? {}
          : { ResponseContentDisposition: options.contentDisposition }),
      }),
      { expiresIn: options.expiresSeconds },
    );
  }

  close(): void {
    this.#client.destroy();
    this.#ranges.close();
  }

  /** @returns `into`, filled; the answer itself where there is no `into`, or where it is not just the bytes asked for */
  async #sendGet(
    command: GetObjectCommand,
    into: Buffer | undefined,
    signal: AbortSignal,
  ): Promise<GetObjectCommandOutput | Buffer> {
    let isRead = false;
    if (into !== undefined) {
      command.middlewareStack.add(
        (next) => async (args) => {
          // What the client is about to send, signed; its type is that of any protocol.
          isRead = await this.#ranges.read(args.request as RangeRequest, into, signal);
          return isRead ? { response: undefined, output: { $metadata: {} } } : await next(args);
        },
        { step: "deserialize", priority: "high", name: "longshoreRangeReader" },
      );
    }
    const answer = await this.#client.send(command, { abortSignal: signal });
    return isRead && into !== undefined ? into : answer;
  }

  async #sendPut(
    key: string,
    content: Content,
    options: PutOptions,
    condition: { readonly IfNoneMatch?: "*" },
    signal: AbortSignal,
  ): Promise<PutObjectCommandOutput> {
    const isBuffer = Buffer.isBuffer(content);
    const body = isBuffer ? content : Readable.from(openContent(key, content), { objectMode: false });
    // The SDK would hash the content itself, in JavaScript and, for a source, not at all.
    const hash = isBuffer ? createHash("sha256").update(content).digest("hex") : "UNSIGNED-PAYLOAD";
    const command = new PutObjectCommand({
      Bucket: this.#bucket,
      Key: this.#prefix + key,
      Body: body,
      ContentLength: contentSize(content),
      ...condition,
      ...(options.contentType === undefined ? {} : { ContentType: options.contentType }),
      ...(this.#encryption === undefined ? {} : { ServerSideEncryption: this.#encryption.algorithm }),
      ...(this.#encryption?.keyId === undefined ? {} : { SSEKMSKeyId: this.#encryption.keyId }),
    });
    command.middlewareStack.add(
      (next) => (args) => {
        if (isWithHeaders(args.request)) args.request.headers["x-amz-content-sha256"] = hash;
        return next(args);
      },
      { step: "build", name: "longshorePayloadHash" },
    );
    if (Buffer.isBuffer(body)) return await this.#client.send(command, { abortSignal: signal });
    // A source that fails has to end the request; nobody else listens, and the server would wait for the rest.
    const failed = new AbortController();
    body.once("error", (error) => failed.abort(new ContentFailedError(error)));
    try {
      return await this.#client.send(command, { abortSignal: AbortSignal.any([signal, failed.signal]) });
    } catch (error) {
      throw failed.signal.aborted ? failed.signal.reason : error;
    } finally {
      body.destroy();
    }
  }

  #retried<T>(
    operation: BackendOperation,
    key: string,
    size: number,
    signal: AbortSignal | undefined,
    run: (signal: AbortSignal, count: RequestCount) => Promise<T>,
  ): Promise<T> {
    return retrying(
      () => this.#once(operation, key, size, signal, run),
      (error) => error instanceof StoreUnavailableError || error instanceof AmbiguousPutError,
      this.#retry,
      this.#random,
      signal,
    );
  }

  /**
   * Has the credentials read again before they say that they expire: some say nothing, and are replaced in a file. Where
   * that fails the request's own error says more than why.
   */
  async #renewCredentials(): Promise<void> {
    await this.#client.config.credentials({ forceRefresh: true }).catch(ignore);
  }

  /** Sends one request under a deadline, tells the observer, and gives errors the class a caller can act on. */
  async #once<T>(
    operation: BackendOperation,
    key: string,
    size: number,
    signal: AbortSignal | undefined,
    run: (signal: AbortSignal, count: RequestCount) => Promise<T>,
  ): Promise<T> {
    signal?.throwIfAborted();
    const count: RequestCount = { sent: 0, received: 0, exists: false };
    const deadline = AbortSignal.timeout(this.#timeoutMs + Math.ceil(size / 1024));
    try {
      const result = await run(signal === undefined ? deadline : AbortSignal.any([signal, deadline]), count);
      this.#onRequest(operation, count.exists ? "exists" : "ok", count.sent, count.received);
      return result;
    } catch (error) {
      const outcome = signal?.aborted === true ? "aborted" : outcomeOf(error);
      this.#onRequest(operation, outcome, count.sent, count.received);
      signal?.throwIfAborted();
      // Fewer bytes than were announced were sent, so the put did not take place.
      if (error instanceof ContentFailedError) throw error.cause;
      if (isCalled(error, "ExpiredToken")) await this.#renewCredentials();
      if (error instanceof StoreRequestRefusedError || error instanceof CorruptObjectError) throw error;
      switch (outcome) {
        case "not_found":
          throw new ObjectNotFoundError(key, error);
        case "denied":
          throw new StoreAccessDeniedError(operation, key, error);
        case "refused":
          throw new StoreRequestRefusedError(operation, key, error);
        default: {
          const cause = deadline.aborted ? new Error("no answer in time", { cause: error }) : error;
          throw operation === "put"
            ? new AmbiguousPutError(key, cause)
            : new StoreUnavailableError(operation, key, cause);
        }
      }
    }
  }
}

/** The source of a put's content failed; `cause` is its error. */
class ContentFailedError extends Error {
  constructor(cause: unknown) {
    super("the content can't be read", { cause });
  }
}

function ignore(): void {}

interface RequestCount {
  sent: number;
  received: number;
  /** A put met an object. */
  exists: boolean;
}

/**
 * 4xx but 408, 409 and 429 will be the same next time. Everything else may succeed: 5xx, and what never was an HTTP
 * answer (reset, refused, time-out, a body that ended early).
 */
function outcomeOf(error: unknown): RequestOutcome {
  if (error instanceof StoreRequestRefusedError || error instanceof CorruptObjectError) return "refused";
  if (error instanceof ContentFailedError) return "aborted";
  const status = statusOf(error);
  const name = error instanceof Error ? error.name : "";
  if (name === "CredentialsProviderError") return "denied";
  if (status === 404) return name === "NoSuchBucket" ? "refused" : "not_found";
  // The clock of the store or ours is off, or the credentials expired under us: both pass with the next signature.
  if (name === "RequestTimeTooSkewed" || name === "ExpiredToken" || name === "RequestTimeout")
    return "retryable";
  if (status === 401 || status === 403) return "denied";
  if (
    status !== undefined &&
    status >= 400 &&
    status < 500 &&
    status !== 408 &&
    status !== 409 &&
    status !== 429
  ) {
    return "refused";
  }
  return "retryable";
}

function isCalled(error: unknown, name: string): boolean {
  return error instanceof Error && error.name === name;
}

function statusOf(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("$metadata" in error)) return undefined;
  const { $metadata: metadata } = error;
  if (typeof metadata !== "object" || metadata === null || !("httpStatusCode" in metadata)) return undefined;
  return typeof metadata.httpStatusCode === "number" ? metadata.httpStatusCode : undefined;
}

function isWithHeaders(value: unknown): value is { headers: Record<string, string> } {
  return typeof value === "object" && value !== null && "headers" in value;
}

/** The `Date` header of an answer, which the client's middleware put there. */
function storeTimeOf(metadata: object): number {
  return parsedDate("date" in metadata ? metadata.date : undefined);
}

function storeTimeOfError(error: unknown): number {
  const response = error instanceof Error && "$response" in error ? error.$response : undefined;
  return parsedDate(isWithHeaders(response) ? response.headers.date : undefined);
}

/** A server without a clock need not send any; then there is only ours. */
function parsedDate(date: unknown): number {
  const parsed = typeof date === "string" ? Date.parse(date) : Number.NaN;
  return Number.isNaN(parsed) ? Date.now() : parsed;
}

/** Reads a body of known length; a shorter one is an error, not a short result. */
function readBody(
  body: Readable,
  bytes: Buffer,
  garbage: ReceivedGarbage,
  signal: AbortSignal,
): Promise<Buffer> {
  const { length } = bytes;
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  let done = 0;
  // Not by iteration, which joins what came meanwhile, and so copies it once more.
  const onData = (part: Buffer): void => {
    if (done + part.length > length)
      body.destroy(new Error(`the body is longer than the ${length} bytes announced`));
    else done += part.copy(bytes, done);
    garbage.add(part.length);
  };
  body.on("data", onData);
  finished(body, { signal }, (error) => {
    // The memory may be somebody else's from now on.
    body.off("data", onData);
    if (error != null) {
      body.destroy();
      reject(error);
    } else if (done === length) resolve(bytes);
    else reject(new Error(`the body ended after ${done} of ${length} bytes`));
  });
  return promise;
}
