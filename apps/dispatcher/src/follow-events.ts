import type { SessionEvent, SessionState } from "@longshore/shared";
import { isTransient } from "./errors.ts";
import type { EventHub } from "./event-hub.ts";

const BATCH = 100;
/**
 * What was told while a follower gives what came before; what comes beyond it is read from Redis. Few, since each may be as large
 * as what is read at once, and clients may be slow.
 */
const TOLD_MAX = 4;
/** Follows no event. */
const UNTOLD = "";
/** How often a follower looks without being told, in ms. */
const POLL_MS = 1_000;

export interface FollowedEvent {
  /** Place in the session's events: what a follower gives to go on after it. */
  readonly id: string;
  readonly event: SessionEvent;
}

export interface FollowOptions {
  readonly state: Pick<SessionState, "readEvents">;
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
  let told: string[] = [];
  const unlisten = hub.listen(sessionId, (news) => {
    told = told.length < TOLD_MAX ? [...told, news] : [UNTOLD];
    grown.resolve();
  });
  signal.addEventListener("abort", stop);
  try {
    for (let last = after; !signal.aborted; ) {
      // Made anew before reading: what grows while this reads is seen in the next round.
      grown = Promise.withResolvers<void>();
      const news = readNews(told, last);
      told = [];
      const batch = news ?? (await readBatch(state, sessionId, last));
      for (const followed of batch) {
        yield followed;
        last = followed.id;
      }
      if (batch.length === BATCH || signal.aborted) continue;
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

/** The events that were told, from the one after `last` on; undefined where there may be others. */
function readNews(told: readonly string[], last: string): FollowedEvent[] | undefined {
  const events: FollowedEvent[] = [];
  for (const news of told) {
    const [before, ...entries] = news.split("\n");
    if (before !== (events.at(-1)?.id ?? last)) return undefined;
    for (let at = 0; at + 1 < entries.length; at += 2)
      events.push({
        id: entries[at] as string,
        event: JSON.parse(entries[at + 1] as string) as SessionEvent,
      });
  }
  return events.length === 0 ? undefined : events;
}

async function readBatch(
  state: FollowOptions["state"],
  sessionId: string,
  after: string,
): Promise<FollowedEvent[]> {
  try {
    return await state.readEvents(sessionId, after, BATCH);
  } catch (error) {
    if (isTransient(error)) return [];
    throw error;
  }
}
