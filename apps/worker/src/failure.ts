import { errnoOf, isRedisTrouble, LongshoreError } from "@longshore/shared";
import {
  AgentExitedError,
  AgentOutOfMemoryError,
  AgentRefusedError,
  HandedBackError,
  MessageMountDeniedError,
  OvertakenError,
  TurnTimeoutError,
} from "./errors.ts";

/**
 * What a failed turn means for its messages.
 *
 * - `counted`: the agent failed on them; it counts as an attempt, and the last one makes dead letters.
 * - `hopeless`: no retry can succeed (missing image, quota): dead letters at once.
 * - `innocent`: engine, store, Redis, host or fleet were at fault; tried again without counting.
 */
export type FailureKind = "counted" | "hopeless" | "innocent";

export interface Failure {
  readonly kind: FailureKind;
  readonly error: { readonly code: string; readonly message: string };
}

/** Codes that no retry can mend, whoever throws them. */
const HOPELESS: ReadonlySet<string> = new Set([
  "UNKNOWN_AGENT",
  "IMAGE_MISSING",
  "COMMAND_FAILED",
  "SANDBOX_SPEC_INVALID",
  "QUOTA_EXCEEDED",
  "COMMIT_TOO_LARGE",
  "USER_QUOTA_EXCEEDED",
  "WORKER_KILLED",
]);

/**
 * Codes that are not retryable at once, and that an operator has to mend, or that say that this worker was stopped for
 * too long: no fault of any message.
 */
const OPERATORS: ReadonlySet<string> = new Set([
  "STALE_MIRROR",
  "STORE_ACCESS_DENIED",
  "STORE_REQUEST_REFUSED",
  "STORE_FORMAT_TOO_NEW",
  "STORE_CORRUPT",
  "OBJECT_NOT_FOUND",
  "RUNTIME_UNAVAILABLE",
]);

/** Most of an error's text that is recorded, in characters: part of it may be an agent's. */
const TEXT_MAX = 4_000;

export function classifyFailure(error: unknown): Failure {
  if (!(error instanceof LongshoreError)) {
    const message = String(error).slice(0, TEXT_MAX);
    if (isRedisTrouble(error)) return { kind: "innocent", error: { code: "REDIS_UNAVAILABLE", message } };
    // What an agent can provoke in its tree has a class of its own: this is the host's disk, limits, network.
    if (errnoOf(error) !== undefined) return { kind: "innocent", error: { code: "HOST_FAILED", message } };
    // Not foreseen, so not known to be the message's fault either; a message must not loop for ever.
    return { kind: "counted", error: { code: "INTERNAL", message } };
  }
  const described = { code: error.code, message: error.message.slice(0, TEXT_MAX) };
  if (HOPELESS.has(error.code) || error instanceof MessageMountDeniedError)
    return { kind: "hopeless", error: described };
  if (OPERATORS.has(error.code)) return { kind: "innocent", error: described };
  const ofTheAgent =
    error instanceof AgentExitedError ||
    error instanceof AgentOutOfMemoryError ||
    error instanceof AgentRefusedError ||
    error instanceof TurnTimeoutError;
  if (ofTheAgent) return { kind: "counted", error: described };
  if (error instanceof HandedBackError || error instanceof OvertakenError || error.retryable) {
    return { kind: "innocent", error: described };
  }
  return { kind: "counted", error: described };
}

/**
 * What a failed operation means for its message. The same files and the same generation fail the same way each time,
 * so what says why it can't be is not tried again.
 */
export function classifyOperationFailure(error: unknown): Failure {
  const failure = classifyFailure(error);
  return failure.kind === "counted" && error instanceof LongshoreError
    ? { ...failure, kind: "hopeless" }
    : failure;
}

export interface Backoff {
  /** Wait before the first retry, in ms. */
  readonly backoff: number;
  /** Longest wait, in ms. */
  readonly longest: number;
}

/** Exponential back-off with jitter: between half of and the whole of `backoff * 2^failures`, at most `longest`. */
export function retryDelayMs(failures: number, { backoff, longest }: Backoff, random: () => number): number {
  const full = Math.min(backoff * 2 ** Math.min(failures, 30), longest);
  return Math.round(full / 2 + (full / 2) * random());
}
