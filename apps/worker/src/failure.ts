import { LongshoreError } from "@longshore/shared";
import {
  AgentExitedError,
  AgentOutOfMemoryError,
  AgentRefusedError,
  HandedBackError,
  OvertakenError,
  TurnTimeoutError,
} from "./errors.ts";

/**
 * What a failed turn means for its messages.
 *
 * - `counted`: the agent failed on them; it counts as an attempt, and the last one makes dead letters.
 * - `hopeless`: no retry can succeed (missing image, quota): dead letters at once.
 * - `innocent`: engine, store or fleet were at fault; tried again without counting.
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
  "SANDBOX_SPEC_INVALID",
  "QUOTA_EXCEEDED",
]);

export function classifyFailure(error: unknown): Failure {
  if (!(error instanceof LongshoreError)) {
    // Not foreseen, so not known to be the message's fault either; a message must not loop for ever.
    return { kind: "counted", error: { code: "INTERNAL", message: String(error) } };
  }
  const described = { code: error.code, message: error.message };
  if (HOPELESS.has(error.code)) return { kind: "hopeless", error: described };
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
