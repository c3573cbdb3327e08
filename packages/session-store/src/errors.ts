import { LongshoreError } from "@longshore/shared";

/** The object store can't be reached, answers 5xx or too late (`STORE_UNAVAILABLE`), after the retries. */
export class StoreUnavailableError extends LongshoreError {
  readonly operation: string;
  readonly key: string;

  constructor(operation: string, key: string, cause: unknown) {
    super("STORE_UNAVAILABLE", `${operation} ${key}: ${reasonOf(cause)}`, { cause, retryable: true });
    this.operation = operation;
    this.key = key;
  }
}

/** The object store refuses the credentials or what they may do (`STORE_ACCESS_DENIED`). */
export class StoreAccessDeniedError extends LongshoreError {
  readonly operation: string;
  readonly key: string;

  constructor(operation: string, key: string, cause: unknown) {
    super("STORE_ACCESS_DENIED", `${operation} ${key}: ${reasonOf(cause)}`, { cause });
    this.operation = operation;
    this.key = key;
  }
}

/** The object store refuses a request as wrong (`STORE_REQUEST_REFUSED`): no such bucket, an option it does not know. */
export class StoreRequestRefusedError extends LongshoreError {
  readonly operation: string;
  readonly key: string;

  constructor(operation: string, key: string, cause: unknown) {
    super("STORE_REQUEST_REFUSED", `${operation} ${key}: ${reasonOf(cause)}`, { cause });
    this.operation = operation;
    this.key = key;
  }
}

/** An object that must be there is not (`OBJECT_NOT_FOUND`). */
export class ObjectNotFoundError extends LongshoreError {
  readonly key: string;

  constructor(key: string, cause?: unknown) {
    super("OBJECT_NOT_FOUND", `${key} does not exist`, { cause });
    this.key = key;
  }
}

/**
 * A put was sent and nobody knows whether it took place (`PUT_AMBIGUOUS`): time-out, reset, 5xx, 409. Whoever
 * put the object settles it by reading it back.
 */
export class AmbiguousPutError extends LongshoreError {
  readonly key: string;

  constructor(key: string, cause: unknown) {
    super("PUT_AMBIGUOUS", `put ${key}: ${reasonOf(cause)}`, { cause, retryable: true });
    this.key = key;
  }
}

/** The object store ignores `If-None-Match: *`, so that it can't hold commits (`STORE_NOT_CONDITIONAL`). */
export class StoreNotConditionalError extends LongshoreError {
  constructor(url: string) {
    super(
      "STORE_NOT_CONDITIONAL",
      `${url} ignores If-None-Match: two puts of one new key both succeeded. Commits would overwrite each other; ` +
        "use a server that supports conditional writes.",
    );
  }
}

/**
 * An object is not what it must be (`STORE_CORRUPT`): a wrong checksum, a malformed or impossible table, a path that
 * leads out of the directory. Nothing of it is used. Never retried: what is stored does not change.
 */
export class CorruptObjectError extends LongshoreError {
  readonly key: string;
  readonly detail: string;

  constructor(key: string, detail: string, cause?: unknown) {
    super("STORE_CORRUPT", `${key}: ${detail}`, { cause });
    this.key = key;
    this.detail = detail;
  }
}

/** An object was written by a newer version of Longshore (`STORE_FORMAT_TOO_NEW`). */
export class FormatTooNewError extends LongshoreError {
  readonly key: string;
  readonly version: number;

  constructor(key: string, version: number, known: number) {
    super(
      "STORE_FORMAT_TOO_NEW",
      `${key} has format ${version}; this version of Longshore knows up to ${known}`,
    );
    this.key = key;
    this.version = version;
  }
}

/** A session has no such generation (`GENERATION_NOT_FOUND`): never made, or beyond its retention. */
export class GenerationNotFoundError extends LongshoreError {
  readonly generation: number;

  /** @param why it can't be used although its record may still be there */
  constructor(generation: number, why?: string) {
    super(
      "GENERATION_NOT_FOUND",
      why === undefined
        ? `there is no generation ${generation}`
        : `generation ${generation} is expiring: ${why}`,
    );
    this.generation = generation;
  }
}

/** A directory that is to be filled is not empty (`DIRECTORY_NOT_EMPTY`), or holds the rest of a failed restore. */
export class DirectoryNotEmptyError extends LongshoreError {
  readonly directory: string;

  constructor(directory: string) {
    super("DIRECTORY_NOT_EMPTY", `${directory} is not empty; a restore needs an empty directory`);
    this.directory = directory;
  }
}

/** Content was shorter or longer than its source had said (`CONTENT_SIZE`): the sender broke off, a file changed. */
export class ContentSizeError extends LongshoreError {
  /** Of the content: a path or a key. */
  readonly path: string;
  readonly expected: number;

  constructor(path: string, expected: number, actual: number) {
    const is = actual > expected ? "more" : `${actual}`;
    super("CONTENT_SIZE", `${JSON.stringify(path)} was to have ${expected} bytes and has ${is}`);
    this.path = path;
    this.expected = expected;
  }
}

/** What a quota bounds; `disk` is what all files take on the host, also those that are not stored. */
export type QuotaName = "bytes" | "disk" | "files" | "fileBytes" | "pathBytes" | "depth";

/** A session directory exceeds its quota (`QUOTA_EXCEEDED`); nothing of it was committed. */
export class QuotaExceededError extends LongshoreError {
  readonly quota: QuotaName;
  readonly limit: number;
  readonly actual: number;
  /** The file that exceeds it, where a single one does. */
  readonly path: string | undefined;

  constructor(quota: QuotaName, limit: number, actual: number, path?: string) {
    const where = path === undefined ? "" : ` at ${JSON.stringify(path)}`;
    super("QUOTA_EXCEEDED", `the session's quota of ${limit} ${quota} is exceeded${where}: ${actual}`);
    this.quota = quota;
    this.limit = limit;
    this.actual = actual;
    this.path = path;
  }
}

/** A commit was asked for with an epoch below its parent's (`EPOCH_REGRESSED`): the caller's lease is not the newest. */
export class EpochRegressedError extends LongshoreError {
  readonly epoch: number;
  readonly parentEpoch: number;

  constructor(epoch: number, parentEpoch: number) {
    super(
      "EPOCH_REGRESSED",
      `epoch ${epoch} is below ${parentEpoch}, the epoch of the generation it builds on`,
    );
    this.epoch = epoch;
    this.parentEpoch = parentEpoch;
  }
}

/** What a commit says beside its files is too much for its record (`COMMIT_TOO_LARGE`); nothing was put. */
export class CommitTooLargeError extends LongshoreError {
  constructor(generation: number, bytes: number, limit: number) {
    super(
      "COMMIT_TOO_LARGE",
      `generation ${generation} would say ${bytes} bytes beside its files, at most ${limit} are allowed`,
    );
  }
}

/**
 * A commit's put was sent, and the store did not let us find out whether it took place (`COMMIT_UNSETTLED`). It may
 * become visible at any time; the next activation adopts or overtakes it.
 */
export class CommitUnsettledError extends LongshoreError {
  readonly generation: number;
  readonly commitId: string;

  constructor(generation: number, commitId: string, cause: unknown) {
    super(
      "COMMIT_UNSETTLED",
      `whether generation ${generation} was committed is not known: ${reasonOf(cause)}`,
      {
        cause,
        retryable: true,
      },
    );
    this.generation = generation;
    this.commitId = commitId;
  }
}

/**
 * A mirror can't be committed (`STALE_MIRROR`): it was made against another generation than the one that would be its
 * parent, or so long ago that what it stored was collected. Make another one.
 */
export class StaleMirrorError extends LongshoreError {
  constructor(why = "the working copy has another base than when this mirror was made") {
    super("STALE_MIRROR", why);
  }
}

/** A working copy can't be used any more (`WORKING_COPY_UNUSABLE`): it was closed, or a restore over it failed. */
export class WorkingCopyUnusableError extends LongshoreError {
  constructor(why: string, cause?: unknown) {
    super("WORKING_COPY_UNUSABLE", `the working copy can't be used: ${why}`, { cause });
  }
}

/** A name that can't be part of an object key (`BAD_STORE_NAME`). */
export class BadStoreNameError extends LongshoreError {
  constructor(what: string, value: string) {
    super("BAD_STORE_NAME", `${what} ${JSON.stringify(value.slice(0, 100))} can't be part of an object key`);
  }
}

/** A chunk cache's directory can't be trusted (`CACHE_UNTRUSTED`): somebody else could change what is in it. */
export class UntrustedCacheError extends LongshoreError {
  readonly directory: string;

  constructor(directory: string, why: string) {
    super(
      "CACHE_UNTRUSTED",
      `${JSON.stringify(directory)} can't be a chunk cache: ${why}; it has to be a directory of this process' user with mode 0700`,
    );
    this.directory = directory;
  }
}

/** The object store's address can't be used (`BAD_STORE_URL`). */
export class BadStoreUrlError extends LongshoreError {
  constructor(url: string, why: string) {
    super("BAD_STORE_URL", `${JSON.stringify(url)}: ${why}; expected s3://bucket/prefix or file:///path`);
  }
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
}
