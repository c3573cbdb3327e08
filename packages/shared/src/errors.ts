/**
 * The root of every error that leaves a Longshore package.
 *
 * A subclass per cause, a stable `code` per subclass (or per constructor argument where one class covers
 * a family). Codes are part of the public interface: HTTP problem documents, message records, logs and
 * metrics carry them. The data a caller needs is in fields, never only in the text. `cause` is kept.
 */
export abstract class LongshoreError extends Error {
  /** Stable, upper case, words joined by `_`. */
  readonly code: string;
  /**
   * Whether the same call may succeed later without anything being changed by the caller: an unreachable
   * engine is, an unknown agent is not.
   */
  readonly retryable: boolean;

  constructor(
    code: string,
    message: string,
    options?: { readonly retryable?: boolean; readonly cause?: unknown },
  ) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.retryable = options?.retryable ?? false;
  }
}
