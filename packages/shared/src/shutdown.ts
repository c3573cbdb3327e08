/**
 * An `AbortSignal` that fires at the first SIGTERM or SIGINT. A second signal ends the process at once,
 * with the exit code that a shell gives for it.
 */
export function shutdownSignal(process: NodeJS.Process = globalThis.process): AbortSignal {
  const controller = new AbortController();
  const onSignal = (signal: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(signal === "SIGINT" ? 130 : 143);
    controller.abort(new Error(`received ${signal}`));
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  return controller.signal;
}
