/**
 * The operations that a store of sessions needs of an object store.
 *
 * Keys are relative to the backend's prefix. Nothing of a session is ever overwritten: the only atomicity that is owed is
 * that of `putIfAbsent`. All methods reject with the signal's reason when it is aborted; what an aborted put did is not known.
 *
 * All but `putIfAbsent` are retried inside (bounded, with back-off).
 */
export interface Backend {
  /** The address, without credentials, for messages. */
  readonly url: string;

  /**
   * Reads an object, or a part of it, whole into memory; the caller bounds what it asks for.
   *
   * @throws ObjectNotFoundError, StoreUnavailableError, StoreAccessDeniedError; CorruptObjectError when the store
   *   has fewer bytes than were asked for
   */
  get(key: string, options?: GetOptions): Promise<Buffer>;

  /**
   * Makes an object unless its key exists. Sent exactly once, so that its first outcome is not mistaken.
   *
   * @throws AmbiguousPutError when nobody knows whether it took place
   */
  putIfAbsent(key: string, content: Content, options?: PutOptions): Promise<PutAnswer>;

  /**
   * Makes an object, or puts another one in the place of the one there. Retried inside. Only for files that others read
   * under a name of their own; nothing that this package reads is ever replaced.
   *
   * @throws StoreUnavailableError, StoreAccessDeniedError, StoreRequestRefusedError
   */
  replace(key: string, content: Content, options?: PutOptions): Promise<void>;

  /** Lists keys in the order of their bytes. */
  list(prefix: string, options?: ListOptions): Promise<Listing>;

  /** Removes objects; those that are not there are no error. */
  delete(keys: readonly string[], options?: { readonly signal?: AbortSignal }): Promise<void>;

  /** What is known of an object without its content; undefined where there is none. */
  head(key: string, options?: { readonly signal?: AbortSignal }): Promise<ObjectInfo | undefined>;

  /** A link with which anyone may read one object for a while; undefined where the store can't make any. */
  presignGet(key: string, options: PresignOptions): Promise<string | undefined>;

  /** Ends idle connections. Operations after it are errors. */
  close(): void;
}

/** First byte and the one after the last. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export interface GetOptions {
  readonly range?: ByteRange;
  /** Filled and given back instead of new memory; exactly as long as the range. What it holds after an error is undefined. */
  readonly into?: Buffer | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Bytes in memory, or a source that can be read from its beginning again as often as the put is tried. */
export type Content = Buffer | ContentSource;

export interface ContentSource {
  readonly sizeBytes: number;
  open(): AsyncIterable<Buffer>;
}

export interface PutOptions {
  /** Kept with the object where the store can, and given to whoever reads it by a link. */
  readonly contentType?: string;
  readonly signal?: AbortSignal | undefined;
}

/** `exists`: an object of that key was there, whoever made it. */
export type PutOutcome = "created" | "exists";

export interface PutAnswer {
  readonly outcome: PutOutcome;
  /** When the store answered, by its own clock: ms since the epoch, possibly cut to the second. */
  readonly storeTimeMs: number;
}

export interface ListOptions {
  /** Only keys above this one. */
  readonly startAfter?: string;
  /** Most keys and groups to give. @default 1000, which is also the most */
  readonly limit?: number;
  /** Keys that share all up to the next `/` after the prefix are given once, as a group. @default false */
  readonly grouped?: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface Listing {
  readonly objects: readonly ListedObject[];
  /** Prefixes ending in `/`, when grouped. */
  readonly groups: readonly string[];
  /** Whether there is more above the last one. */
  readonly more: boolean;
  /** When the store answered, by its own clock: ms since the epoch, possibly cut to the second. */
  readonly storeTimeMs: number;
}

export interface ListedObject {
  readonly key: string;
  readonly sizeBytes: number;
  /** By the store's clock, ms since the epoch. */
  readonly modifiedMs: number;
}

export interface ObjectInfo {
  readonly sizeBytes: number;
  readonly modifiedMs: number;
}

export interface PresignOptions {
  /** How long the link works, in seconds; S3 allows at most 7 days. */
  readonly expiresSeconds: number;
  readonly contentType?: string;
  /** The `Content-Disposition` that the browser is given. */
  readonly contentDisposition?: string;
}

export type BackendOperation = "get" | "put" | "list" | "delete" | "head";

/** `retryable`: the request failed and the same one may succeed later. */
export type RequestOutcome = "ok" | "exists" | "not_found" | "denied" | "refused" | "retryable" | "aborted";

/** Told of every request that was sent, each try of a retried one included. */
export type RequestObserver = (
  operation: BackendOperation,
  outcome: RequestOutcome,
  bytesSent: number,
  bytesReceived: number,
) => void;

/** The size of a put's content in bytes. */
export function contentSize(content: Content): number {
  return Buffer.isBuffer(content) ? content.length : content.sizeBytes;
}
