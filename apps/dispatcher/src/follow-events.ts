import type { SessionEvent, SessionState } from "@longshore/shared";
import { isTransient } from "./errors.ts";
import type { EventHub } from "./event-hub.ts";

const BATCH = 100;
/** How often a follower looks without being told, in ms. */
const POLL_MS = 1_000;

export interface FollowedEvent {
  /** Place in the session's events: what a follower gives to go on after it. */
  readonly id: string;
  readonly event: SessionEvent;
}

export interface FollowOptions {
  readonly state: SessionState;
  readonly hub: EventHub;
  readonly sessionId: string;
  /** Events after this one; `0`: all that are kept. */
  readonly after: string;
  readonly signal: AbortSignal;
}

/**
 * The events of a session, those that are kept and then those to come, until the signal ends it. Undefined is
 * given whenever there was nothing for a while, so that the caller can look at other things. While Redis is
 * away nothing comes; it goes on by itself afterwards.
 */
export async function* followEvents({
  state,
  hub,
  sessionId,
  after,
  signal,
}: FollowOptions): AsyncGenerator<FollowedEvent | undefined, void> {
  let grown = Promise.withResolvers<void>();
  const stop = () => grown.resolve();
  const unlisten = hub.listen(sessionId, () => grown.resolve());
  signal.addEventListener("abort", stop);
  try {
    for (let last = after; !signal.aborted; ) {
      // Made anew before reading: what grows while this reads is seen in the next round.
      grown = Promise.withResolvers<void>();
      const batch = await readBatch(state, sessionId, last);
      for (const followed of batch) {
        yield followed;
        last = followed.id;
      }
      if (batch.length > 0 || signal.aborted) continue;
      let quiet = false;
      const timer = setTimeout(() => {
        quiet = true;
        stop();
      }, POLL_MS);
      await grown.promise;
      clearTimeout(timer);
      if (quiet) yield undefined;
    }
  } finally {
    signal.removeEventListener("abort", stop);
    unlisten();
  }
}

async function readBatch(state: SessionState, sessionId: string, after: string): Promise<FollowedEvent[]> {
  try {
    return await state.readEvents(sessionId, after, BATCH);
  } catch (error) {
    if (isTransient(error)) return [];
    throw error;
  }
}
