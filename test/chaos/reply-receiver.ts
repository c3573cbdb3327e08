import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { z } from "zod";
import type { ReplyCall } from "./history.ts";

const bodySchema = z.object({
  sessionId: z.string(),
  conversation: z.string(),
  text: z.string(),
  inReplyTo: z.array(z.string()),
});

/** Where the fleet's replies go: takes each, unless it is told to fail, and remembers every call. */
export class ReplyReceiver implements AsyncDisposable {
  readonly calls: ReplyCall[] = [];
  /** The status of the next answer; the call is cut off for 0. */
  status: () => number = () => 200;
  /** Told of each message that a taken reply answers. */
  onAnswered: (messageId: string) => void = () => undefined;
  readonly #secret = randomBytes(24).toString("base64url");
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      this.#take(request, response).catch(() => request.socket.destroy());
    });
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
      secret: this.#secret,
      retry: { backoff: "50ms", longest: "1s" },
    };
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const {
      sessionId,
      conversation,
      text: said,
      inReplyTo,
    } = bodySchema.parse(JSON.parse(await text(request)));
    const status = this.status();
    this.calls.push({
      at: Date.now(),
      key: String(request.headers["idempotency-key"]),
      ...{ sessionId, conversation, text: said, inReplyTo, status },
    });
    if (status === 0) return void request.socket.destroy();
    response.writeHead(status).end();
    if (status === 200) for (const messageId of inReplyTo) this.onAnswered(messageId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}
