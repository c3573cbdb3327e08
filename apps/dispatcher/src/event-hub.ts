import { eventsChannel, type Logger, type RedisClient } from "@longshore/shared";

/** @param news what the events are, for `readNews`, or empty */
type EventListener = (news: string) => void;

/**
 * Tells followers that the events of a session grew. A hint: what is published while the connection is away
 * is missed, so a follower looks by itself from time to time.
 */
export class EventHub {
  readonly #subscriber: RedisClient;
  readonly #log: Logger;
  readonly #listeners = new Map<string, Set<EventListener>>();

  /** The connection is the hub's alone: a subscriber can do nothing else. */
  constructor(subscriber: RedisClient, log: Logger) {
    this.#subscriber = subscriber;
    this.#log = log;
    subscriber.on("message", (channel: string, news: string) => {
      for (const listener of this.#listeners.get(channel) ?? []) listener(news);
    });
  }

  /** Calls the listener from now on, and once as soon as nothing is missed any more; gives what ends it. */
  listen(sessionId: string, listener: EventListener): () => void {
    const channel = eventsChannel(sessionId);
    const known = this.#listeners.get(channel);
    const listeners = known ?? new Set();
    listeners.add(listener);
    if (known === undefined) {
      this.#listeners.set(channel, listeners);
      this.#subscriber.subscribe(channel).then(
        () => {
          for (const each of listeners) each("");
        },
        (error: unknown) => this.#log.debug({ err: error }, "not subscribed"),
      );
    }
    return () => {
      listeners.delete(listener);
      if (listeners.size > 0 || this.#listeners.get(channel) !== listeners) return;
      this.#listeners.delete(channel);
      this.#subscriber
        .unsubscribe(channel)
        .catch((error: unknown) => this.#log.debug({ err: error }, "not unsubscribed"));
    };
  }
}
