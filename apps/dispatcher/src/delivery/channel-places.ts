import type { Clock } from "@longshore/shared";

/** Of what is free, this part may go to one channel: however many are slow, there is a place for the next. */
const SHARE = 1 / 4;
/** How much the last stay counts in the average. */
const SMOOTHING = 1 / 8;
const LEAST_WAIT_MS = 20;
const LONGEST_WAIT_MS = 30_000;

interface Channel {
  /** Conversations of it that are being delivered. */
  busy: number;
  /** How long one of them takes, about, in ms. */
  stayMs: number;
  /** When the last one that was sent away was told to come, by the monotonic clock. */
  promisedAt: number;
}

export interface ChannelPlacesOptions {
  /** Conversations at once. */
  readonly places: number;
  /** Of these, those of one channel at most. */
  readonly channelPlaces: number;
  readonly clock: Clock;
}

/**
 * The places for conversations, shared among channels so that slow ones leave room for the others (I10). A channel that
 * has all it may have sends the next one away until there should be a place for it, one after another: how long those
 * inside stay tells when that is, and a long queue costs no more looks than it has members.
 */
export class ChannelPlaces {
  readonly #options: ChannelPlacesOptions;
  readonly #channels = new Map<string, Channel>();
  #busy = 0;

  constructor(options: ChannelPlacesOptions) {
    this.#options = options;
  }

  /** Takes a place; gives what frees it, or after how many ms to come again. */
  take(name: string): (() => void) | number {
    const { places, channelPlaces, clock } = this.#options;
    const now = clock.monotonic();
    const channel = this.#channels.get(name) ?? { busy: 0, stayMs: LEAST_WAIT_MS, promisedAt: now };
    const most = Math.min(channelPlaces, Math.max(Math.ceil((places - this.#busy) * SHARE), 1));
    if (channel.busy >= most) {
      const paceMs = channel.stayMs / Math.max(channel.busy, 1);
      channel.promisedAt = Math.min(
        Math.max(channel.promisedAt, now + LEAST_WAIT_MS) + paceMs,
        now + LONGEST_WAIT_MS,
      );
      return Math.ceil(channel.promisedAt - now);
    }
    channel.busy += 1;
    this.#busy += 1;
    this.#channels.set(name, channel);
    return () => this.#free(name, channel, now);
  }

  #free(name: string, channel: Channel, takenAt: number): void {
    const stayedMs = this.#options.clock.monotonic() - takenAt;
    channel.stayMs += (stayedMs - channel.stayMs) * SMOOTHING;
    channel.busy -= 1;
    this.#busy -= 1;
    // What is known of a channel is kept only while it is busy: names come from whoever can publish replies.
    if (channel.busy === 0) this.#channels.delete(name);
  }
}
