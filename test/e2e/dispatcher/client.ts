import { keys } from "./dispatcher-stack.ts";

/** A message to the agent `helper`, changed as the test says. */
export function message(id: string, more: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return {
    id,
    agent: "helper",
    channel: "http",
    conversation: "c",
    sender: { id: "ada" },
    text: "hello",
    ...more,
  };
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: each test says what it expects
  readonly body: any;
}

export interface Call {
  /** @default keys.acme; null: none */
  readonly key?: string | null;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** Sent as it is, where `body` would be JSON. */
  readonly raw?: string | Uint8Array<ArrayBuffer>;
  readonly method?: string;
}

function start(url: string, { key = keys.acme, headers = {}, body, raw, method }: Call): Promise<Response> {
  const content = raw ?? (body === undefined ? undefined : JSON.stringify(body));
  return fetch(url, {
    method: method ?? (content === undefined ? "GET" : "POST"),
    headers: {
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
      ...(content === undefined ? {} : { "content-type": "application/json" }),
      ...headers,
    },
    ...(content === undefined ? {} : { body: content }),
  });
}

/** One request; the answer's body is parsed where it is JSON. */
export async function call(url: string, options: Call = {}): Promise<Answer> {
  const response = await start(url, options);
  const text = await response.text();
  const json = text !== "" && (response.headers.get("content-type")?.includes("json") ?? false);
  return { status: response.status, headers: response.headers, body: json ? JSON.parse(text) : text };
}

export interface ReceivedEvent {
  readonly id: string | undefined;
  readonly event: string;
  // biome-ignore lint/suspicious/noExplicitAny: each test says what it expects
  readonly data: any;
}

/** The events of a stream as they come; ending the iteration ends the connection. */
export async function* events(url: string, options: Call = {}): AsyncGenerator<ReceivedEvent> {
  const response = await start(url, {
    ...options,
    headers: { accept: "text/event-stream", ...options.headers },
  });
  if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`);
  let rest = "";
  for await (const chunk of (response.body as ReadableStream<Uint8Array>).pipeThrough(
    new TextDecoderStream(),
  )) {
    const frames = (rest + chunk).split("\n\n");
    rest = frames.pop() as string;
    for (const frame of frames) {
      const fields = new Map(frame.split("\n").map((line) => line.split(/: (.*)/s, 2) as [string, string]));
      const event = fields.get("event");
      if (event !== undefined)
        yield { id: fields.get("id"), event, data: JSON.parse(fields.get("data") as string) };
    }
  }
}

/** The events of a stream until one of the name has come, that one included. */
export async function eventsUntil(
  stream: AsyncGenerator<ReceivedEvent>,
  name: string,
): Promise<ReceivedEvent[]> {
  const received: ReceivedEvent[] = [];
  for await (const event of stream) {
    received.push(event);
    if (event.event === name) break;
  }
  return received;
}

/** Asks again until the answer is as wanted; the test's own time-out bounds it. */
export async function until<T>(ask: () => Promise<T>, wanted: (answer: T) => boolean): Promise<T> {
  for (;;) {
    const answer = await ask();
    if (wanted(answer)) return answer;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
