import type { SessionSummary } from "@longshore/shared";
import { z } from "zod";

/**
 * What becomes of a session now:
 *
 * - `running`: a worker holds it, and messages wait or are being answered
 * - `lingering`: a worker holds it, and waits for the next message
 * - `retrying`: its turn failed, and is tried again at `retryAt`
 * - `waiting`: messages wait for a worker
 * - `idle`: there is nothing to do
 */
export const sessionActivitySchema = z.object({
  state: z.enum(["running", "lingering", "retrying", "waiting", "idle"]),
  /** Who holds it. */
  worker: z.string().optional(),
  /** When a failed turn is tried again. */
  retryAt: z.string().optional(),
});
export type SessionActivity = z.output<typeof sessionActivitySchema>;

/** @param nowMs milliseconds since the epoch */
export function activityOf(
  { leasedBy, waiting, retryAt }: Pick<SessionSummary, "leasedBy" | "waiting" | "retryAt">,
  nowMs: number,
): SessionActivity {
  if (leasedBy !== undefined) return { state: waiting > 0 ? "running" : "lingering", worker: leasedBy };
  if (waiting === 0) return { state: "idle" };
  if (retryAt > nowMs) return { state: "retrying", retryAt: new Date(retryAt).toISOString() };
  return { state: "waiting" };
}
