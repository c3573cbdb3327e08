import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { text as readText } from "node:stream/consumers";

/** A reply as the API gives it. */
export interface ApiReply {
  readonly id: string;
  readonly text: string;
  readonly kind: string;
  readonly of?: string;
  readonly channel: string;
  readonly conversation: string;
  readonly artifacts: readonly { readonly id: string; readonly name: string; readonly sizeBytes: number }[];
}

/** A message as the API gives it. */
export interface ApiMessage {
  readonly messageId: string;
  readonly sessionId: string;
  readonly state: string;
  readonly seq: number;
  readonly duplicate?: boolean;
  readonly attempts?: number;
  readonly error?: { readonly code: string; readonly message: string };
  readonly replies?: readonly ApiReply[];
}

/** The longest that a test waits for an answer, in seconds. */
const WAIT_SECONDS = 100;

/** A user of the HTTP API. */
export class Api {
  readonly url: string;
  readonly #key: string;

  constructor(url: string, key: string) {
    this.url = url;
    this.#key = key;
  }

  request(method: string, path: string, body?: unknown): Promise<Response> {
    return fetch(`${this.url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${this.#key}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  }

  async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.request(method, path, body);
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return JSON.parse(text) as T;
  }

  /** Sends a message to the agent `shell`, and does not wait for its answer. */
  send(conversation: string, id: string, text: string, more: Readonly<Record<string, unknown>> = {}) {
    return this.json<ApiMessage>("POST", "/v1/messages", message(conversation, id, text, more));
  }

  /** Sends a message and waits until it has ended. */
  ask(conversation: string, id: string, text: string, more: Readonly<Record<string, unknown>> = {}) {
    return this.json<ApiMessage>(
      "POST",
      `/v1/messages?wait=${WAIT_SECONDS}`,
      message(conversation, id, text, more),
    );
  }

  /** Sends a message, and gives what happens until it has ended, as server-sent events. */
  async stream(
    conversation: string,
    id: string,
    text: string,
    more: Readonly<Record<string, unknown>> = {},
  ): Promise<IncomingMessage> {
    const call = request(`${this.url}/v1/messages`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${this.#key}`,
        "content-type": "application/json",
        accept: "text/event-stream",
      },
    });
    call.end(JSON.stringify(message(conversation, id, text, more)));
    const [response] = (await once(call, "response")) as [IncomingMessage];
    if (response.statusCode !== 200) throw new Error(`${response.statusCode} ${await readText(response)}`);
    return response.setEncoding("utf8");
  }

  message(messageId: string): Promise<ApiMessage> {
    return this.json<ApiMessage>("GET", `/v1/messages/${messageId}`);
  }

  async file(sessionId: string, path: string): Promise<string> {
    const response = await this.request("GET", `/v1/sessions/${sessionId}/files/${path}`);
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.text();
  }
}

function message(conversation: string, id: string, text: string, more: Readonly<Record<string, unknown>>) {
  return { id, agent: "shell", channel: "http", conversation, sender: { id: "ada" }, text, ...more };
}
