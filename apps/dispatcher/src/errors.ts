import { isRedisTrouble, LongshoreError } from "@longshore/shared";

/** The object store did not take an attachment in time. The same message may be sent again. */
export class StoreTimeoutError extends LongshoreError {
  constructor(timeoutMs: number, cause: unknown) {
    super("STORE_TIMEOUT", `The object store did not take the attachments within ${timeoutMs} ms`, {
      retryable: true,
      cause,
    });
  }
}

/** An attachment that a message names by its URL could not be got. The same message may be sent again. */
export class AttachmentFetchError extends LongshoreError {
  /** @param index which attachment of its message it is */
  constructor(index: number, problem: string, cause?: unknown) {
    super("ATTACHMENT_FETCH_FAILED", `attachments.${index}.url: ${problem}`, { retryable: true, cause });
  }
}

/**
 * An operation on a session was accepted and could not be applied. Its code is that of the reason: `UNSAFE_PATH` (a file
 * is in the way of a directory), `QUOTA_EXCEEDED`, `GENERATION_NOT_FOUND` ...
 */
export class OperationFailedError extends LongshoreError {}

/** The Redis at hand can't hold the fleet's state. Usual cause: an eviction policy that drops keys. */
export class UnsuitableRedisError extends LongshoreError {
  constructor(problem: string) {
    super("UNSUITABLE_REDIS", problem);
  }
}

/** Something that the dispatcher needs did not answer while it started. */
export class NotReachableError extends LongshoreError {
  constructor(what: string, waitedMs: number, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super("NOT_REACHABLE", `${what} did not answer within ${waitedMs} ms: ${reason}`, {
      retryable: true,
      cause,
    });
  }
}

/** Whether the same call may succeed later, although nothing is changed by its caller. */
export function isTransient(error: unknown): boolean {
  return error instanceof LongshoreError ? error.retryable : isRedisTrouble(error);
}
