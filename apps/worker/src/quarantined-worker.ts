import { isSessionId, shutdownSignal, workerChannel } from "@longshore/shared";
import { Activation } from "./activation.ts";
import type { QuarantineEnd } from "./quarantine.ts";
import { openWorkerParts } from "./worker-parts.ts";

/** A worker for one activation of one session, whose message may kill it; started by `Quarantine`. */
async function runQuarantined(sessionId: string): Promise<void> {
  const shutdown = shutdownSignal();
  const orphaned = new AbortController();
  process.once("disconnect", () => orphaned.abort());
  await using opened = await openWorkerParts(process.env, shutdown);
  const { parts, source, subscriber, log, workerId } = opened;
  const activation = new Activation(sessionId, {
    ...parts,
    takeWarm: () => undefined,
    // Its parent has seen to what it may.
    admit: async () => undefined,
    onRest: async () => undefined,
    onTurn: () => undefined,
    mayLinger: () => false,
    isAlone: true,
  });
  subscriber.on("message", () => activation.hint());
  await subscriber.subscribe(workerChannel(workerId));
  let timer: NodeJS.Timeout | undefined;
  const drain = () => {
    timer ??= setTimeout(() => activation.handBack(), source.current.worker.drain);
  };
  shutdown.addEventListener("abort", drain, { once: true });
  if (shutdown.aborted) drain();
  // Nobody keeps the session's job any more.
  orphaned.signal.addEventListener("abort", () => activation.handBack(), { once: true });
  try {
    const end = await activation.run();
    log.info({ sessionId, end }, "the quarantined activation ended");
    // Its parent may be gone.
    if (end.outcome === "later" && process.connected)
      process.send?.({ inMs: end.inMs } satisfies QuarantineEnd, () => undefined);
  } finally {
    clearTimeout(timer);
  }
}

const [, , sessionId = ""] = process.argv;
if (!isSessionId(sessionId)) throw new RangeError("not a session id");
try {
  await runQuarantined(sessionId);
} catch (error) {
  process.stderr.write(`${(error as Error).stack ?? error}\n`);
  process.exitCode = 1;
}
// What is left (the channel to the parent) would keep it.
process.disconnect?.();
