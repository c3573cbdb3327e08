export { type AccessRule, accessRules, executableAnyway } from "./access-policy.ts";
export {
  type AgentContext,
  addUsage,
  agentContextSchema,
  type SessionUsage,
  sessionUsageSchema,
  type TokenCounts,
  type TokenKind,
  tokenCountsSchema,
  tokenKinds,
} from "./agent-usage.ts";
export { ArtifactLinks, type LinkedArtifact } from "./artifact-links.ts";
export { type ClientEnvironment, readClientEnvironment } from "./client-environment.ts";
export { type Clock, systemClock } from "./clock.ts";
export {
  type Artifact,
  artifactSchema,
  type CommitNote,
  commitNoteSchema,
  endMessage,
  type MessageEnd,
  messageEndSchema,
  type PublishedReply,
  publishedReplySchema,
  RECENT_MESSAGES,
  type Reply,
  replyKinds,
  replySchema,
  SENT_MAX,
} from "./commit-note.ts";
export {
  ConfigurationSource,
  type ConfigurationSourceOptions,
  InvalidConfigurationError,
  type LoadedConfiguration,
  loadConfiguration,
  parseConfiguration,
} from "./configuration.ts";
export {
  type AgentDefinition,
  type ChannelDefinition,
  type Configuration,
  configurationSchema,
  type KeyDefinition,
  type Route,
  type Scope,
  scopes,
} from "./configuration-schema.ts";
export {
  DEAD_LETTERS_LISTED,
  type DeadLetter,
  type DeadLetterSummary,
  DeadLetters,
  deadReplyId,
  parseDeadReplyId,
  type Settlement,
  summarizeDeadMessage,
  summarizeDeadReply,
} from "./dead-letters.ts";
export {
  type Durability,
  describeDurability,
  durabilities,
  type Guarantee,
  judgeDurability,
} from "./durability.ts";
export { DurabilityBarrier, NotDurableError } from "./durability-barrier.ts";
export { type EgressPattern, hostName, matchesEgress, parseEgressPattern } from "./egress-pattern.ts";
export type { EgressDefinition } from "./egress-schema.ts";
export { EndedRecords } from "./ended-records.ts";
export { type Environment, environmentSecrets, readEnvironment } from "./environment.ts";
export { LongshoreError } from "./errors.ts";
export { GatheredCalls } from "./gathered-calls.ts";
export { type HealthServer, type HealthServerOptions, type NotReady, serveHealth } from "./health-server.ts";
export { keepConsuming } from "./keep-consuming.ts";
export {
  eventsChannel,
  fleetKeys,
  gateKeys,
  messageKey,
  PENDING_SHARDS,
  pendingKey,
  pendingShards,
  QUEUE_PREFIX,
  queueNames,
  type SessionKeys,
  schedulesKey,
  sessionKeys,
  type TenantKeys,
  tenantKeys,
  tenantSessionsKey,
  volumeKeys,
  waitingMessagesKey,
  workerChannel,
  workerReportKey,
} from "./keys.ts";
export { KnownSecrets } from "./known-secrets.ts";
export { createLogger, type Logger, type LoggerOptions, redactUrls } from "./logger.ts";
export { longestActivationMs } from "./longest-activation.ts";
export {
  type AcceptedMessage,
  acceptedMessageSchema,
  attachmentKinds,
  attachmentSchema,
  hasCredentials,
  type InboundJob,
  inboundJobSchema,
  MESSAGE_ATTACHMENTS_MAX,
  MESSAGE_TEXT_MAX_BYTES,
  type Message,
  type MessageState,
  messageSchema,
  messageStates,
  type StoredAttachment,
  storedAttachmentSchema,
} from "./message.ts";
export {
  type InputProblem,
  InvalidMessageError,
  MailboxFullError,
  MessageTooLargeError,
  NoRouteError,
  RateLimitedError,
  SessionBusyError,
  StorageFullError,
  UnknownAgentError,
  UnknownChannelError,
  UnknownTenantError,
} from "./message-errors.ts";
export { MessageRate } from "./message-rate.ts";
export { Metrics, type TurnPhase, turnPhases } from "./metrics.ts";
export {
  type AllowedMount,
  type MessageMount,
  type MountDefinition,
  mountOfMessage,
  overlappingTarget,
  USER_PLACEHOLDER,
  type VolumeDefinition,
} from "./mount-schema.ts";
export { identifierSchema, nameSchema } from "./names.ts";
export {
  type EndedOperation,
  OPERATION_MAX_BYTES,
  OPERATION_PATHS_MAX,
  type Operation,
  type OperationPath,
  operationPathBytes,
  operationSchema,
  type RollbackOperation,
  summarizeOperation,
  type UploadOperation,
  uploadSchema,
} from "./operation.ts";
export { type ConnectRedisOptions, connectRedis, type RedisClient } from "./redis.ts";
export { parseRedisUrl, REDIS_URL_FORMS, redisHosts } from "./redis-address.ts";
export { type RedisFacts, readRedisFacts } from "./redis-facts.ts";
export { isRedisFull, isRedisTrouble } from "./redis-trouble.ts";
export { retentionOf, type SessionRetention } from "./retention.ts";
export { type ConversationPlace, type Destination, type Routed, routeMessage } from "./routing.ts";
export {
  SCHEDULE_TEXT_MAX_BYTES,
  SCHEDULES_MAX,
  type Schedule,
  ScheduleBook,
  type ScheduleTiming,
  scheduledMessageSchema,
  scheduleSchema,
  TooManySchedulesError,
} from "./schedule-book.ts";
export {
  type DueSchedule,
  InvalidScheduleError,
  ScheduleNotFoundError,
  type ScheduleRequest,
  Schedules,
  type SchedulesOptions,
  scheduledJobSchema,
} from "./schedules.ts";
export type { SessionEvent } from "./session-event.ts";
export {
  deriveMessageId,
  deriveOperationId,
  deriveReplyId,
  deriveRetryId,
  deriveSessionId,
  hashId,
  isSessionId,
  type SessionMode,
  type SessionOf,
  sessionModes,
  sessionOfMessageId,
} from "./session-id.ts";
export {
  ACCEPT_WINDOW_MS,
  type AcceptResult,
  AcceptTooSlowError,
  type AskedQuestion,
  type AtWork,
  type CancelledTurn,
  type CancelMode,
  CONTEXT_DROPPED,
  type DeadReply,
  type Deaths,
  FencedError,
  IDLE_SESSION_TTL_MS,
  type Lease,
  type LeftTurn,
  type MessageRecord,
  type NextMessages,
  REPLIES_PER_GENERATION,
  SessionState,
  type SessionStateOptions,
  type SessionSummary,
  type TakenLease,
  type TakeResult,
  TurnCancelledError,
  TurnNotRunningError,
  type WaitingContext,
  type WaitingMessage,
} from "./session-state.ts";
export {
  type CreateFileOptions,
  type CreateOptions,
  type OpenTreeFile,
  SessionTree,
  type TreeEntry,
  type TreeEntryType,
  type TreeOwner,
} from "./session-tree.ts";
export { CREATE_FLAGS, DirectoryDescriptor, NAME_FLAGS, READ_FLAGS } from "./session-tree-directory.ts";
export {
  errnoOf,
  PathExistsError,
  PathNotFoundError,
  TreeIoError,
  TreeLimitError,
  treeErrorOf,
  UnsafePathError,
  type UnsafePathReason,
} from "./session-tree-errors.ts";
export {
  NAME_BYTES_MAX,
  PATH_BYTES_MAX,
  sessionPathOfApi,
  sessionPathOfTool,
  showPath,
  splitTreePath,
  type TreePath,
} from "./session-tree-paths.ts";
export { removeTree } from "./session-tree-remove.ts";
export { shutdownSignal } from "./shutdown.ts";
export { BadCursorError, readSetPage, type SetMember, type SetPage } from "./sorted-set-page.ts";
export { StoredBytes } from "./stored-bytes.ts";
export { ThrottledJobs } from "./throttled-jobs.ts";
export { timeZoneSchema } from "./time-zone.ts";
export { type GateEntry, type TurnGate, TurnGates } from "./turn-gates.ts";
export { LAST_PRIORITY, TurnOrder, type TurnTag } from "./turn-order.ts";
export { openTurnWakes, type TurnWake, TurnWakes } from "./turn-wakes.ts";
export { duration, size } from "./units.ts";
export { gateLimit, TENANT_GATE, userOf } from "./user-gate.ts";
export { userPath } from "./user-path.ts";
export { type TakenVolume, VolumeLeases, type VolumeName } from "./volume-leases.ts";
export { type VolumeNote, volumeNoteSchema } from "./volume-note.ts";
export { openReplyWakes, type ReplyWake, type WakeQueue } from "./wake.ts";
export {
  WORKER_ACTIVATIONS_REPORTED,
  WORKER_REPORT_TTL_MS,
  WorkerRegistry,
  type WorkerReport,
} from "./worker-registry.ts";
