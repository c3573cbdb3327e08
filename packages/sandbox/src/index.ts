export { type BoundLinesOptions, boundLines } from "./bound-lines.ts";
export { BwrapRuntime, type BwrapRuntimeOptions } from "./bwrap/bwrap-runtime.ts";
export type { CgroupAbilities, CgroupTree, SandboxCgroup } from "./bwrap/cgroup.ts";
export { DockerRuntime, type DockerRuntimeOptions } from "./docker/docker-runtime.ts";
export {
  EngineCallError,
  EngineProtocolError,
  EngineTimeoutError,
  EngineUnreachableError,
  ImageMissingError,
  OutputLimitError,
  RuntimeUnavailableError,
  SandboxSpecError,
  SandboxStartError,
  SandboxStuckError,
} from "./errors.ts";
export type {
  IsLive,
  ReapFailure,
  ReapResult,
  RuntimeReport,
  Sandbox,
  SandboxExit,
  SandboxLabels,
  SandboxLimits,
  SandboxRuntime,
  SandboxSpec,
  SandboxUser,
} from "./sandbox.ts";
