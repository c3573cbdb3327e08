import type { Channel, Delivered } from "./channel.ts";

/**
 * Replies for whoever waits for them or fetches them over HTTP. The commit that holds a reply makes it
 * readable, so it is delivered as soon as it is published: there is nothing to call.
 */
export const httpChannel: Channel = {
  retry: { firstMs: 1_000, longestMs: 1_000, giveUpMs: 1_000 },
  unknownOutcome: "idempotent",
  deliver: async (): Promise<Delivered> => ({}),
};
