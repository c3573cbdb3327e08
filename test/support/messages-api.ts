import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import {
  createServer as createPlainServer,
  type IncomingMessage,
  type Server as PlainServer,
  type ServerResponse,
} from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { json } from "node:stream/consumers";

/** A part of an answer; text may come bit by bit. */
export type AnswerBlock =
  | { readonly type: "text"; readonly text: string | AsyncIterable<string> }
  | { readonly type: "tool_use"; readonly name: string; readonly input: unknown };

/** What the model says, or how the request fails. */
export type Answer =
  | readonly AnswerBlock[]
  | { readonly status: number; readonly error: string; readonly retryAfterSeconds?: number };

interface ContentBlock {
  readonly type: string;
  readonly text?: string;
  readonly content?: string | readonly ContentBlock[];
  readonly [field: string]: unknown;
}

interface MessagesBody {
  readonly model: string;
  readonly stream?: boolean;
  readonly tools?: readonly { readonly name: string }[];
  readonly messages: readonly {
    readonly role: string;
    readonly content: string | readonly ContentBlock[];
  }[];
}

/** A request for what the model says next, as the provider got it. */
export class MessagesRequest {
  readonly body: MessagesBody;
  readonly headers: IncomingMessage["headers"];
  /** Resolves when its connection ends before the answer did. */
  readonly cutOff: Promise<void>;

  constructor(body: MessagesBody, incoming: IncomingMessage, response: ServerResponse) {
    this.body = body;
    this.headers = incoming.headers;
    this.cutOff = new Promise((resolve) => {
      response.once("close", () => {
        if (!response.writableFinished) resolve();
      });
    });
  }

  /** What was said so far by user and assistant, tool calls and their results among it, in this order. */
  get said(): string[] {
    return this.body.messages
      .filter(({ role }) => role !== "system")
      .flatMap(({ role, content }) => blocksOf(content).map((block) => `${role}: ${textOf(block)}`));
  }

  /** What the model is to react to: all that was said since its last answer. */
  get latest(): string {
    const { messages } = this.body;
    const after = messages.findLastIndex(({ role }) => role === "assistant");
    return messages
      .slice(after + 1)
      .flatMap(({ content }) => blocksOf(content).map(textOf))
      .join("\n");
  }
}

const blocksOf = (content: string | readonly ContentBlock[]): readonly ContentBlock[] =>
  typeof content === "string" ? [{ type: "text", text: content }] : content;

function textOf(block: ContentBlock): string {
  if (block.type === "text") return block.text ?? "";
  if (block.type === "tool_result")
    return `tool_result ${blocksOf(block.content ?? "")
      .map(textOf)
      .join("\n")}`;
  return JSON.stringify(block);
}

/**
 * A stand-in for the provider's Messages API (https://docs.anthropic.com/en/api/messages), over TLS on loopback: streams
 * what a test lets the model say, and lets nobody in without the key.
 */
export class MessagesApi implements AsyncDisposable {
  readonly key = `sk-${randomBytes(24).toString("hex")}`;
  /** Those that a tool-using agent makes; it asks for titles and the like besides. */
  readonly requests: MessagesRequest[] = [];
  /** Requests without the key or with another one, and what they had instead. */
  readonly refused: string[] = [];
  /** What the model answers; each test has its own. */
  answer: (request: MessagesRequest) => Answer | Promise<Answer> = () => [{ type: "text", text: "Yes." }];
  readonly #directory: string;
  readonly #server: Server;
  readonly #plain: PlainServer;
  #messages = 0;

  private constructor() {
    this.#directory = mkdtempSync(join(tmpdir(), "longshore-messages-"));
    const key = join(this.#directory, "key.pem");
    const subject = ["-subj", "/CN=messages-api", "-addext", "subjectAltName=IP:127.0.0.1"];
    const kind = [
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-days",
      "2",
    ];
    const files = ["-keyout", key, "-out", this.certificateFile];
    execFileSync("openssl", ["req", ...kind, ...subject, ...files], { stdio: "ignore" });
    const serve = (incoming: IncomingMessage, response: ServerResponse) => {
      this.#serve(incoming, response).catch(() => response.destroy());
    };
    const tls = { key: readFileSync(key), cert: readFileSync(this.certificateFile) };
    this.#server = createServer(tls, serve);
    this.#plain = createPlainServer(serve);
  }

  static async start(): Promise<MessagesApi> {
    const api = new MessagesApi();
    for (const server of [api.#server, api.#plain]) await once(server.listen(0, "127.0.0.1"), "listening");
    return api;
  }

  /** Whoever is to believe the server trusts this. */
  get certificateFile(): string {
    return join(this.#directory, "certificate.pem");
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The same without TLS, for an agent that is run by hand. */
  get plainUrl(): string {
    return `http://127.0.0.1:${(this.#plain.address() as AddressInfo).port}`;
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(incoming.url ?? "/", this.url);
    // Some clients first look whether there is anybody, without a key.
    if (incoming.method === "HEAD") response.writeHead(200).end();
    else if (incoming.headers["x-api-key"] !== this.key) {
      this.refused.push(`${incoming.method} ${incoming.url} ${incoming.headers["x-api-key"]}`);
      fail(response, { status: 401, error: "authentication_error" });
    } else if (incoming.method !== "POST" || pathname !== "/v1/messages") {
      fail(response, { status: 404, error: "not_found_error" });
    } else {
      const body = (await json(incoming)) as MessagesBody;
      const request = new MessagesRequest(body, incoming, response);
      // Without tools it only wants a name for the session.
      const isMain = (body.tools ?? []).length > 0;
      if (isMain) this.requests.push(request);
      const answer = isMain ? await this.answer(request) : [{ type: "text", text: '{"title":"t"}' } as const];
      if ("status" in answer) fail(response, answer);
      else await this.#say(response, body, answer);
    }
  }

  async #say(response: ServerResponse, { model, stream }: MessagesBody, blocks: readonly AnswerBlock[]) {
    if (stream !== true) throw new Error("only streams are served");
    response.writeHead(200, { "content-type": "text/event-stream" });
    const send = (type: string, fields: object) =>
      response.write(`event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`);
    const id = `msg_${++this.#messages}`;
    const usage = { input_tokens: 10, output_tokens: 1 };
    const empty = { content: [], stop_reason: null, stop_sequence: null, usage };
    send("message_start", { message: { id, type: "message", role: "assistant", model, ...empty } });
    for (const [index, block] of blocks.entries()) {
      const delta = (fields: object) => send("content_block_delta", { index, delta: fields });
      if (block.type === "text") {
        send("content_block_start", { index, content_block: { type: "text", text: "" } });
        const parts = typeof block.text === "string" ? [block.text] : block.text;
        for await (const text of parts) delta({ type: "text_delta", text });
      } else {
        const call = { type: "tool_use", id: `toolu_${id}_${index}`, name: block.name, input: {} };
        send("content_block_start", { index, content_block: call });
        delta({ type: "input_json_delta", partial_json: JSON.stringify(block.input) });
      }
      send("content_block_stop", { index });
    }
    const wantsTool = blocks.some(({ type }) => type === "tool_use");
    const reason = { stop_reason: wantsTool ? "tool_use" : "end_turn", stop_sequence: null };
    send("message_delta", { delta: reason, usage: { output_tokens: 5 } });
    send("message_stop", {});
    response.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of [this.#server, this.#plain]) {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    }
    rmSync(this.#directory, { recursive: true });
  }
}

function fail(
  response: ServerResponse,
  { status, error, retryAfterSeconds }: Extract<Answer, { status: number }>,
): void {
  response.writeHead(status, {
    "content-type": "application/json",
    ...(retryAfterSeconds === undefined ? {} : { "retry-after": String(retryAfterSeconds) }),
  });
  response.end(
    JSON.stringify({ type: "error", error: { type: error, message: `the stand-in says ${error}` } }),
  );
}
