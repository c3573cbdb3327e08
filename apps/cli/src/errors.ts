import { LongshoreError } from "@longshore/shared";

/** The command line is wrong: exit code 2. */
export class UsageError extends LongshoreError {
  constructor(message: string) {
    super("USAGE", message);
  }
}

/** The dispatcher refused a request, in its own words (RFC 9457). */
export class ApiError extends LongshoreError {
  readonly status: number;
  /** Hashes of contents that have to be uploaded first (`UPLOADS_MISSING`). */
  readonly missing: readonly string[];

  constructor(code: string, message: string, status: number, missing: readonly string[] = []) {
    super(code, message, { retryable: status === 429 || status >= 500 });
    this.status = status;
    this.missing = missing;
  }
}

/** No dispatcher answers at the address. */
export class ApiUnreachableError extends LongshoreError {
  readonly url: string;

  constructor(url: string, cause: unknown) {
    super(
      "DISPATCHER_UNREACHABLE",
      `no dispatcher answers at ${url} (${reasonOf(cause)}); --url or LONGSHORE_URL names another`,
      {
        retryable: true,
        cause,
      },
    );
    this.url = url;
  }
}

/** What answers is no dispatcher, or one of another version. */
export class ApiProtocolError extends LongshoreError {
  constructor(what: string, cause?: unknown) {
    super("DISPATCHER_PROTOCOL", `the dispatcher's answer makes no sense: ${what}`, { cause });
  }
}

/** The message was given up on. */
export class MessageDeadError extends LongshoreError {
  /** Code of the reason. */
  readonly reason: string;

  constructor(reason: string, message: string) {
    super("MESSAGE_DEAD", `the message was given up on: ${message} (${reason})`);
    this.reason = reason;
  }
}

/** The message did not end in the time that was given; it goes on. */
export class WaitTimeoutError extends LongshoreError {
  constructor(messageId: string, seconds: number) {
    super("WAIT_TIMEOUT", `message ${messageId} did not end within ${seconds} s; it goes on without us`, {
      retryable: true,
    });
  }
}

/** What could not be pulled safely. */
export class PullError extends LongshoreError {
  constructor(message: string, cause?: unknown) {
    super("PULL_REFUSED", message, { cause });
  }
}

/** What could not be pushed as it is. */
export class PushError extends LongshoreError {
  constructor(message: string, cause?: unknown) {
    super("PUSH_REFUSED", message, { cause });
  }
}

/** An operation on a session was accepted and could not be applied. The code is that of the reason. */
export class OperationFailedError extends LongshoreError {}

/** A tenant has no such volume, or nothing was committed of it yet. */
export class NoSuchVolumeError extends LongshoreError {
  constructor(tenant: string, volume: string) {
    super("NO_SUCH_VOLUME", `The tenant ${tenant} has no volume ${volume}, or nothing was committed of it`);
  }
}

/** Garbage of some sessions could not be collected. */
export class CollectError extends LongshoreError {
  readonly failed: number;

  constructor(failed: number) {
    super("COLLECT_FAILED", `${failed} ${failed === 1 ? "session" : "sessions"} could not be collected`);
    this.failed = failed;
  }
}

/** A check that is needed failed. */
export class DoctorError extends LongshoreError {
  constructor(failed: number) {
    super("NOT_READY", `${failed} ${failed === 1 ? "check" : "checks"} failed`);
  }
}

/** The innermost reason of a failed `fetch`, which hides it in causes. */
function reasonOf(error: unknown): string {
  let reason = error;
  while (reason instanceof Error && reason.cause instanceof Error) reason = reason.cause;
  if (!(reason instanceof Error)) return String(reason);
  const { code } = reason as NodeJS.ErrnoException;
  return reason.message || code || reason.name;
}
