import { Readable } from "node:stream";
import type { Clock } from "@longshore/shared";

/** Silence after which a comment keeps proxies and clients from taking the connection for dead, in ms. */
const HEARTBEAT_MS = 20_000;

export interface ServerSentEvent {
  /** What a client gives as `Last-Event-ID` to go on after it. */
  readonly id?: string;
  readonly event: string;
  readonly data: unknown;
}

export const eventStreamHeaders = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-store",
  // Some proxies would collect the events before they pass them on.
  "x-accel-buffering": "no",
} as const;

/** A frame of the stream. JSON has no line breaks, so that the data is one line. */
export function formatEvent({ id, event, data }: ServerSentEvent): string {
  return `${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

/**
 * The body of an event stream. It is read only as fast as the client takes it. `events` gives undefined from
 * time to time when there is nothing to say.
 */
export function eventStreamBody(events: AsyncIterable<ServerSentEvent | undefined>, clock: Clock): Readable {
  return Readable.from(frames(events, clock), { objectMode: false, highWaterMark: 64 * 1024 });
}

async function* frames(
  events: AsyncIterable<ServerSentEvent | undefined>,
  clock: Clock,
): AsyncGenerator<string, void> {
  // The headers leave with the first byte: a client should know at once that it is connected.
  yield ": connected\n\n";
  let lastAt = clock.monotonic();
  for await (const event of events) {
    if (event === undefined && clock.monotonic() - lastAt < HEARTBEAT_MS) continue;
    lastAt = clock.monotonic();
    yield event === undefined ? ": still here\n\n" : formatEvent(event);
  }
}
