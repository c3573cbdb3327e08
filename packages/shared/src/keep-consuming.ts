import type { Worker } from "bullmq";

/** How long after an error, or its end, a part of a consumer is begun anew, in ms. */
const AGAIN_MS = 1_000;

/**
 * Keeps a consumer of a queue at work until it is closed.
 *
 * running → (its loop ended) waiting → running; → (an error) its search for stalled jobs, which may have ended with that,
 * is begun anew after a while, once for all errors meanwhile.
 *
 * (Seen with BullMQ 6.7: the search ends for good with the first error that is not the connection's, such as a Redis that
 * is full or whose cluster is down for a moment. What dead workers leave then stays active for ever, and nobody serves it.)
 *
 * @param onEnded told when the loop ended although nobody closed it, with why
 */
export function keepConsuming(worker: Worker, onEnded: (error: unknown) => void): void {
  let search: NodeJS.Timeout | undefined;
  let again: NodeJS.Timeout | undefined;
  worker.on("error", () => {
    if (worker.closing !== undefined) return;
    search ??= setTimeout(() => {
      search = undefined;
      // What goes wrong in it is the next error; not before the consumer runs, which begins it itself.
      if (worker.isRunning()) worker.startStalledCheckTimer().catch(() => undefined);
    }, AGAIN_MS);
  });
  const run = (): void => {
    worker.run().then(
      () => ended(undefined),
      (error: unknown) => ended(error),
    );
  };
  const ended = (error: unknown): void => {
    if (worker.closing !== undefined) return;
    onEnded(error);
    again = setTimeout(run, AGAIN_MS);
  };
  worker.once("closing", () => {
    clearTimeout(search);
    clearTimeout(again);
  });
  run();
}
