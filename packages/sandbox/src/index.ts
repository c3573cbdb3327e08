export { accessMountPoints } from "./access-mounts.ts";
export { BwrapRuntime, type BwrapRuntimeOptions } from "./bwrap/bwrap-runtime.ts";
export type { CgroupAbilities, CgroupTree, SandboxCgroup } from "./bwrap/cgroup.ts";
export { findHostTools, type HostTools } from "./bwrap/host-tools.ts";
export { DockerRuntime, type DockerRuntimeOptions } from "./docker/docker-runtime.ts";
export type { EgressDecision, EgressRecord } from "./egress/decision.ts";
export { Dialer, type DialerOptions } from "./egress/dialer.ts";
export { EgressProxy, type EgressProxyOptions } from "./egress/egress-proxy.ts";
export { isPublicAddress } from "./egress/public-address.ts";
export {
  CommandFailedError,
  EngineCallError,
  EngineProtocolError,
  EngineTimeoutError,
  EngineUnreachableError,
  ImageMissingError,
  RuntimeRestingError,
  RuntimeUnavailableError,
  SandboxSpecError,
  SandboxStartError,
  SandboxStuckError,
  SandboxUsersExhaustedError,
  SlotDiskError,
  WorkerIdTakenError,
} from "./errors.ts";
export { EGRESS_PORT, TOOLS_COMMAND } from "./helper/helper-paths.ts";
export { Reaper, type ReaperOptions, type ReaperReport } from "./reaper.ts";
export type {
  IsLive,
  ReapFailure,
  ReapResult,
  RuntimeReport,
  Sandbox,
  SandboxExit,
  SandboxLabels,
  SandboxLimits,
  SandboxMount,
  SandboxRuntime,
  SandboxSpec,
  SandboxUser,
  ServeConnection,
} from "./sandbox.ts";
export { SandboxUsers, type SandboxUsersOptions } from "./sandbox-users.ts";
export { type DiskQuota, diskSpaceOf, SlotDisks } from "./slot-disks.ts";
export { SESSION_DIRECTORIES, Slots, type SlotUse } from "./slots.ts";
export { StartBreaker } from "./start-breaker.ts";
export { type WarmKind, type WarmMember, WarmPool, type WarmPoolOptions } from "./warm-pool.ts";
export { WorkerPresence } from "./worker-presence.ts";
