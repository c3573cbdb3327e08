import type { TableDelta } from "./table-entry.ts";

/** Any JSON value. */
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: JsonValue;
}

/** Why a generation was made. */
export const commitKinds = [
  "turn",
  "takeover",
  "linger",
  "upload",
  "rollback",
  "fork",
  "checkpoint",
  "tombstone",
] as const;
export type CommitKind = (typeof commitKinds)[number];

/** What the caller says of a commit. */
export interface CommitMeta {
  /** The activation's fencing number; never below the parent's. */
  readonly epoch: number;
  /** The activation's own random name. */
  readonly nonce: string;
  readonly worker: string;
  readonly kind: CommitKind;
  /** Made inside a turn: undone when the turn is tried again. @default false */
  readonly partial?: boolean;
  /** Carried verbatim; the store does not look into it. At most a few MiB. */
  readonly note: JsonObject;
}

/**
 * Where the file table of a generation is: full ⊕ rollup ⊕ the deltas of the commit records named, in this order. All
 * of them are read at once, so a restore costs one round trip more than the newest record, however long the log is.
 */
export interface TableChain {
  /** A whole table, or none: the session began empty and has not changed much since. */
  readonly full?: string;
  /** The changes since the full table, merged. */
  readonly rollup?: string;
  /** Generations whose own records hold the changes after that; the commit's own one may be the last. */
  readonly deltas: readonly number[];
}

/** A generation of another session of the tenant, some of whose objects a fork still uses. */
export interface ForkOrigin {
  readonly sessionId: string;
  readonly generation: number;
}

/** A generation of a session, as its commit record says it. */
export interface Commit {
  readonly generation: number;
  /** The generation it builds on: 0 for the first, else the one before. */
  readonly parent: number;
  readonly epoch: number;
  readonly nonce: string;
  /** Random, of this commit alone: by it an ambiguous put is settled. */
  readonly id: string;
  readonly worker: string;
  /** By the committing host's clock, ISO 8601. */
  readonly time: string;
  readonly kind: CommitKind;
  readonly partial: boolean;
  readonly note: JsonObject;
  /** Entries (files, directories, links) and bytes of content in this generation. */
  readonly entries: number;
  readonly totalBytes: number;
  readonly chain: TableChain;
  /** What changed against the parent; undefined where that is too much to be part of the record. */
  readonly delta: TableDelta | undefined;
  /** Packed new content that is part of the record. */
  readonly inline: Buffer;
  /** In a fork, or a fork's fork: whose objects the file table may still name. @default none */
  readonly origins?: readonly ForkOrigin[];
  /** The chain says other places for content that `delta` does not mention: it was packed anew. @default false */
  readonly repacked?: boolean;
  /**
   * When the store gave this record as the newest or took it, by its own clock, in ms since the epoch; not stored.
   * Undefined: not known.
   */
  readonly observedMs?: number;
}
