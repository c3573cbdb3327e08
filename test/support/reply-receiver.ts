import { createHmac, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import type { ApiReply } from "./api.ts";

/** A call of the webhook channel. */
export interface ReplyCall {
  /** The idempotency key: the same in each call for a reply. */
  readonly key: string;
  /** Whether the signature is that of the body. */
  readonly isSigned: boolean;
  readonly reply: ApiReply & {
    readonly sessionId: string;
    readonly conversation: string;
    readonly inReplyTo: readonly string[];
  };
  /** What it was answered. */
  readonly status: number;
}

/** What a user of the webhook channel runs: a server that takes replies, or fails to. */
export class ReplyReceiver implements AsyncDisposable {
  readonly calls: ReplyCall[] = [];
  readonly secret = randomBytes(24).toString("base64url");
  /** The status of the next answer; the call is not answered at all, but cut off, for 0. */
  status: () => number = () => 200;
  readonly #server: Server;
  readonly #watchers = new Set<() => void>();

  private constructor() {
    this.#server = createServer((request, response) => void this.#take(request, response));
  }

  static async start(): Promise<ReplyReceiver> {
    const receiver = new ReplyReceiver();
    receiver.#server.listen(0, "127.0.0.1");
    await once(receiver.#server, "listening");
    return receiver;
  }

  /** The definition of a channel that calls it. */
  get channel(): Readonly<Record<string, unknown>> {
    const { port } = this.#server.address() as AddressInfo;
    return {
      type: "webhook",
      url: `http://127.0.0.1:${port}/replies`,
      secret: this.secret,
      retry: { backoff: "20ms", longest: "100ms" },
    };
  }

  /** The calls that were taken. */
  get taken(): ReplyCall[] {
    return this.calls.filter(({ status }) => status === 200);
  }

  /** Resolves when so many calls match. */
  async received(count: number, matches: (call: ReplyCall) => boolean): Promise<void> {
    while (this.calls.filter(matches).length < count) {
      await new Promise<void>((resolve) => this.#watchers.add(resolve));
    }
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await text(request);
    const { headers } = request;
    const signed = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
    const signature = `v1,${createHmac("sha256", this.secret).update(signed).digest("base64")}`;
    const status = this.status();
    this.calls.push({
      key: headers["idempotency-key"] as string,
      isSigned: headers["webhook-signature"] === signature,
      reply: JSON.parse(body),
      status,
    });
    if (status === 0) response.destroy();
    else response.writeHead(status).end();
    for (const watcher of this.#watchers) watcher();
    this.#watchers.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}
