import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

export interface ReceivedCall {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly raw: string;
  // biome-ignore lint/suspicious/noExplicitAny: each test says what it expects
  readonly body: any;
}

/** A real server for webhooks, which answers as the test says. */
export class WebhookReceiver implements AsyncDisposable {
  readonly calls: ReceivedCall[] = [];
  /** How to answer; the default takes it. */
  answer: (call: ReceivedCall, response: ServerResponse) => void = (_call, response) => response.end();
  readonly #server: Server;

  private constructor() {
    this.#server = createServer(async (request, response) => {
      const raw = await text(request);
      const call = { path: request.url as string, headers: request.headers, raw, body: JSON.parse(raw) };
      this.calls.push(call);
      this.answer(call, response);
    });
  }

  static async start(): Promise<WebhookReceiver> {
    const receiver = new WebhookReceiver();
    receiver.#server.listen(0, "127.0.0.1");
    await once(receiver.#server, "listening");
    return receiver;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The texts that were taken or not, in the order of the calls. */
  get texts(): string[] {
    return this.calls.map(({ body }) => body.text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** The signature that a receiver computes by itself. */
export function expectedSignature(secret: string, { headers, raw }: ReceivedCall): string {
  const signed = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${raw}`;
  return `v1,${createHmac("sha256", secret).update(signed).digest("base64")}`;
}
