export { type BoundLinesOptions, boundLines } from "./bound-lines.ts";
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
