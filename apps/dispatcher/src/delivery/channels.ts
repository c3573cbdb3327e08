import type { SessionStore } from "@longshore/session-store";
import type { ArtifactLinks, Clock, Configuration } from "@longshore/shared";
import { Agent } from "undici";
import { type Channel, DeliveryError } from "./channel.ts";
import { httpChannel } from "./http-channel.ts";
import { WebhookChannel } from "./webhook-channel.ts";

const CONNECTIONS_PER_HOST = 32;

/** A reply for a channel that the configuration does not have (any more) waits for it to come back. */
const missingChannel: Channel = {
  retry: { firstMs: 1_000, longestMs: 60_000, giveUpMs: 900_000 },
  unknownOutcome: "idempotent",
  deliver: async (reply) => {
    throw new DeliveryError("UNKNOWN_CHANNEL", `No channel "${reply.channel}" is configured`, {
      outcome: "refused",
    });
  },
};

export interface ChannelsOptions {
  readonly configuration: () => Configuration;
  readonly store: SessionStore;
  readonly links: ArtifactLinks;
  /** The address of the dispatchers as receivers of replies reach it; without it links are paths. */
  readonly publicUrl: string | undefined;
  readonly clock: Clock;
}

/** The channels of the configuration in force, by name. */
export class Channels {
  readonly #options: ChannelsOptions;
  readonly #dispatcher = new Agent({ connections: CONNECTIONS_PER_HOST, pipelining: 1 });

  constructor(options: ChannelsOptions) {
    this.#options = options;
  }

  find(name: string): Channel {
    const { configuration, ...parts } = this.#options;
    const { channels } = configuration();
    const definition = Object.hasOwn(channels, name) ? channels[name] : undefined;
    if (definition === undefined) return missingChannel;
    if (definition.type === "http") return httpChannel;
    return new WebhookChannel({ ...parts, definition, dispatcher: this.#dispatcher });
  }

  async close(): Promise<void> {
    await this.#dispatcher.destroy();
  }
}
