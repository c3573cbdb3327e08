export type {
  Backend,
  BackendOperation,
  ByteRange,
  Content,
  ContentSource,
  ObjectInfo,
  PresignOptions,
  PutAnswer,
  PutOutcome,
  RequestObserver,
  RequestOutcome,
} from "./backend/backend.ts";
export { type BackendOptions, openBackend } from "./backend/open-backend.ts";
export type { CacheEvent, ChunkCacheOptions } from "./cache/chunk-cache.ts";
export type { CommitResult } from "./commit-log.ts";
export {
  AmbiguousPutError,
  BadStoreNameError,
  BadStoreUrlError,
  CommitTooLargeError,
  CommitUnsettledError,
  ContentSizeError,
  CorruptObjectError,
  DirectoryNotEmptyError,
  EpochRegressedError,
  FormatTooNewError,
  GenerationNotFoundError,
  ObjectNotFoundError,
  QuotaExceededError,
  type QuotaName,
  StaleMirrorError,
  StoreAccessDeniedError,
  StoreNotConditionalError,
  StoreRequestRefusedError,
  StoreUnavailableError,
  UntrustedCacheError,
  WorkingCopyUnusableError,
} from "./errors.ts";
export type { DirectoryChange, FileChange, FileChanges, LinkChange, TreeChange } from "./file-changes.ts";
export { type BytePath, bytesOfPath, pathOf, textOfPath } from "./format/byte-path.ts";
export {
  type Commit,
  type CommitKind,
  type CommitMeta,
  commitKinds,
  type ForkOrigin,
  type JsonObject,
  type JsonValue,
} from "./format/commit.ts";
export type { FileTable } from "./format/file-table.ts";
export type { DirectoryEntry, FileEntry, LinkEntry, TableDelta, TableEntry } from "./format/table-entry.ts";
export type { CollectOptions, CollectReport, ObjectCount } from "./gc/collect.ts";
export {
  type CollectAllOptions,
  type CollectedSession,
  type CollectedVolume,
  collectSessions,
  collectVolumes,
} from "./gc/collect-all.ts";
export type { Retention } from "./gc/retained.ts";
export type { StoredInbound } from "./inbound.ts";
export type { DirectoryRef, SessionRef, VolumeRef } from "./keys.ts";
export type { Mirror, MirrorOptions } from "./mirror.ts";
export type { StoredObject } from "./plain-objects.ts";
export type { Progress, ProgressListener } from "./progress.ts";
export type { PublishedFiles } from "./published-files.ts";
export {
  type ArtifactLinkOptions,
  type HydrateOptions,
  type OpenedFile,
  SessionStore,
  type SessionStoreOptions,
} from "./session-store.ts";
export type { SkillFile, SkillRef } from "./skills.ts";
export { compilePatterns, type PathPredicate } from "./tree/exclusions.ts";
export { measureTree, type TreeSize } from "./tree/measure-tree.ts";
export type { LeftOut, Quota } from "./tree/scan.ts";
export type { Owner } from "./tree/write-frames.ts";
export type { TurnLog, TurnLogPage } from "./turn-logs.ts";
export type { RestoreOptions, WorkingCopy } from "./working-copy.ts";
