import { type InputProblem, LongshoreError } from "@longshore/shared";

/** Codes that the HTTP API itself answers with, beside those of the errors of the packages below it. */
export type ApiErrorCode =
  | "UNAUTHENTICATED"
  | "FORBIDDEN"
  | "NOT_FOUND"
  | "MESSAGE_NOT_FOUND"
  | "MESSAGE_NOT_WAITING"
  | "SESSION_NOT_FOUND"
  | "FILE_NOT_FOUND"
  | "TURN_LOG_NOT_FOUND"
  | "NOT_A_FILE"
  | "ARTIFACT_NOT_FOUND"
  | "LINK_EXPIRED"
  | "DIGEST_MISMATCH"
  | "UPLOADS_MISSING"
  | "UPLOAD_CUT"
  | "UPLOAD_TIMEOUT"
  | "ORIGIN_UNKNOWN"
  | "NOTHING_COMMITTED"
  | "RANGE_NOT_SATISFIABLE"
  | "INVALID_REQUEST"
  | "MALFORMED_JSON"
  | "UNSUPPORTED_MEDIA_TYPE"
  | "BODY_TOO_LARGE"
  | "TOO_MANY_STREAMS"
  | "BUSY";

export interface ApiErrorOptions {
  readonly problems?: readonly InputProblem[];
  /** Hashes of contents that have to be uploaded first. */
  readonly missing?: readonly string[];
  /** When to try again, in seconds. */
  readonly retryAfterSeconds?: number;
  readonly cause?: unknown;
}

/** A request that is answered with a problem document. */
export class ApiError extends LongshoreError {
  readonly status: number;
  readonly problems: readonly InputProblem[] | undefined;
  readonly missing: readonly string[] | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(status: number, code: ApiErrorCode, detail: string, options: ApiErrorOptions = {}) {
    super(code, detail, { retryable: options.retryAfterSeconds !== undefined, cause: options.cause });
    this.status = status;
    this.problems = options.problems;
    this.missing = options.missing;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}
