import { EventSourceParserStream } from "eventsource-parser/stream";
import { z } from "zod";
import { problemSchema } from "./api-schemas.ts";
import { ApiError, ApiProtocolError, ApiUnreachableError } from "./errors.ts";

/** The longest wait for an answer: the whole of a JSON one, the beginning of a stream or a file. In ms. */
const ANSWER_TIMEOUT_MS = 60_000;
/** The longest that a file may take to be uploaded, in ms: the dispatcher takes no longer requests. */
const UPLOAD_TIMEOUT_MS = 3_600_000;
/** An event stream that says nothing for longer than this, not even a heartbeat, is taken for dead. */
const STREAM_SILENCE_MS = 90_000;
/** The longest event that is read, in characters. */
const EVENT_LENGTH_MAX = 16 * 1024 ** 2;

export interface ApiClientOptions {
  /** Of the dispatcher, with or without a path in front of `/v1`. */
  readonly url: string;
  readonly key: string | undefined;
}

export interface StreamEvent {
  /** To go on after it. */
  readonly id: string | undefined;
  readonly data: unknown;
}

/** The dispatcher's HTTP API. Every call throws `ApiUnreachableError`, `ApiError` or `ApiProtocolError`. */
export class ApiClient {
  readonly #base: string;
  readonly #key: string | undefined;

  constructor({ url, key }: ApiClientOptions) {
    this.#base = url.replace(/\/+$/, "");
    this.#key = key;
  }

  /** `GET` of a path below `/v1`, checked against a schema. */
  async get<Schema extends z.ZodType>(
    path: string,
    schema: Schema,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<z.output<Schema>> {
    return await this.#json(path, options, schema);
  }

  async post<Schema extends z.ZodType>(
    path: string,
    body: unknown,
    schema: Schema,
    options: { readonly signal?: AbortSignal; readonly headers?: Readonly<Record<string, string>> } = {},
  ): Promise<z.output<Schema>> {
    const headers = { "content-type": "application/json", ...options.headers };
    return await this.#json(
      path,
      { ...options, method: "POST", headers, body: JSON.stringify(body) },
      schema,
    );
  }

  async delete(path: string, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    await this.#fetch(path, { ...options, signal: options.signal ?? null, method: "DELETE" });
  }

  /** `PUT` of bytes. The answer may take as long as the bytes do. */
  async put(
    path: string,
    body: Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>,
    options: { readonly signal?: AbortSignal; readonly headers?: Readonly<Record<string, string>> } = {},
  ): Promise<Response> {
    const init = { ...options, signal: options.signal ?? null, method: "PUT", body, duplex: "half" };
    return await this.#fetch(path, init as RequestInit, UPLOAD_TIMEOUT_MS);
  }

  /** The bytes of a file, as they come. */
  async download(path: string, signal?: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    const { body } = await this.#fetch(path, { signal: signal ?? null });
    if (body === null) throw new ApiProtocolError("an answer without a body");
    return bytesOf(body, `${this.#base}/v1${path}`);
  }

  /**
   * The events of a stream, after the one named, until the other side ends it. Throws
   * `ApiUnreachableError` where the connection breaks or falls silent: call again with the last id.
   */
  async *events(path: string, lastEventId: string, signal: AbortSignal): AsyncGenerator<StreamEvent> {
    const silence = new AbortController();
    const response = await this.#fetch(path, {
      signal: AbortSignal.any([signal, silence.signal]),
      headers: { accept: "text/event-stream", "last-event-id": lastEventId },
    });
    if (response.body === null) throw new ApiProtocolError("an event stream without a body");
    const timer = setTimeout(() => silence.abort(new Error("the stream fell silent")), STREAM_SILENCE_MS);
    try {
      const stream = response.body
        .pipeThrough(
          new TransformStream<Uint8Array, Uint8Array>({
            transform: (chunk, controller) => {
              timer.refresh();
              controller.enqueue(chunk);
            },
          }),
        )
        .pipeThrough(new TextDecoderStream())
        .pipeThrough(new EventSourceParserStream({ maxBufferSize: EVENT_LENGTH_MAX }));
      for await (const { id, data } of stream) yield { id, data: parseJson(data) };
    } catch (error) {
      if (error instanceof ApiProtocolError || signal.aborted) throw error;
      throw new ApiUnreachableError(this.#base, error);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Awaits the beginning of an answer. */
  async #fetch(path: string, init: RequestInit, timeoutMs = ANSWER_TIMEOUT_MS): Promise<Response> {
    const started = new AbortController();
    const timer = setTimeout(() => started.abort(new Error("no answer in time")), timeoutMs);
    const signals = init.signal ? [init.signal, started.signal] : [started.signal];
    try {
      const response = await fetch(`${this.#base}/v1${path}`, {
        ...init,
        signal: AbortSignal.any(signals),
        headers: { ...this.#authorization(), ...(init.headers as Record<string, string> | undefined) },
        redirect: "error",
      });
      if (!response.ok) throw await refusal(response);
      return response;
    } catch (error) {
      if (error instanceof ApiError || isCallersAbort(init.signal)) throw error;
      throw new ApiUnreachableError(this.#base, error);
    } finally {
      clearTimeout(timer);
    }
  }

  #authorization(): Record<string, string> {
    return this.#key === undefined ? {} : { authorization: `Bearer ${this.#key}` };
  }

  async #json<Schema extends z.ZodType>(
    path: string,
    init: RequestInit,
    schema: Schema,
  ): Promise<z.output<Schema>> {
    const timeout = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    const response = await this.#fetch(path, {
      ...init,
      signal: init.signal ? AbortSignal.any([init.signal, timeout]) : timeout,
    });
    const text = await response.text().catch((error: unknown) => {
      if (init.signal?.aborted) throw error;
      throw new ApiUnreachableError(this.#base, error);
    });
    const result = schema.safeParse(parseJson(text));
    if (!result.success) throw new ApiProtocolError(z.prettifyError(result.error), result.error);
    return result.data;
  }
}

/** Whether the caller wants no answer any more; a time-out of ours says that nobody answers. */
function isCallersAbort(signal: AbortSignal | null | undefined): boolean {
  return signal?.aborted === true && (signal.reason as Error | undefined)?.name !== "TimeoutError";
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ApiProtocolError("no JSON", error);
  }
}

/** What a refusal says; where it is no problem document, something else stands at this address. */
async function refusal(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => "");
  try {
    const { code, detail, title, missing } = problemSchema.parse(JSON.parse(text));
    return new ApiError(code, detail ?? title ?? `status ${response.status}`, response.status, missing);
  } catch {
    return new ApiError("HTTP_ERROR", `the server answered with status ${response.status}`, response.status);
  }
}

async function* bytesOf(body: ReadableStream<Uint8Array>, url: string): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    throw new ApiUnreachableError(url, error);
  }
}
