import { setTimeout as delay } from "node:timers/promises";

/** What a client waits before it sends again, in ms. */
const AGAIN_MS = 100;

/** As a client should: the same request, with the same id, until it is accepted, or ended. */
export async function insist<T>(call: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!/: 5\d\d |fetch failed/.test(String(error))) throw error;
      await delay(AGAIN_MS);
    }
  }
}
