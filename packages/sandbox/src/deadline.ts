import { EngineTimeoutError } from "./errors.ts";

/**
 * Runs an engine call under a deadline. The call's promise is left alone after that: an engine that hangs
 * may never settle it.
 * @param run gets a signal that is aborted at the deadline
 * @throws EngineTimeoutError at the deadline
 */
export async function withDeadline<T>(
  operation: string,
  timeoutMs: number,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const expiry = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const error = new EngineTimeoutError(operation, timeoutMs);
    expiry.reject(error);
    controller.abort(error);
  }, timeoutMs);
  try {
    return await Promise.race([run(controller.signal), expiry.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves to whether the promise settled within the time. */
export async function settlesWithin(promise: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  const expiry = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => expiry.resolve(false), timeoutMs);
  try {
    return await Promise.race([
      promise.then(
        () => true,
        () => true,
      ),
      expiry.promise,
    ]);
  } finally {
    clearTimeout(timer);
  }
}
