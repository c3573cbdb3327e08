import type { Commit, SessionRef, SessionStore } from "@longshore/session-store";
import type { SessionAccess } from "../session-access.ts";
import { ApiError } from "./api-error.ts";

/** Throws `ApiError` `SESSION_NOT_FOUND`, for a session of another tenant as for one that never was. */
export async function checkOwned(
  access: SessionAccess,
  { tenant, sessionId }: SessionRef,
  signal: AbortSignal,
): Promise<void> {
  if (!(await access.owns(tenant, sessionId, signal)))
    throw new ApiError(404, "SESSION_NOT_FOUND", "There is no such session");
}

/** A generation of a session, the newest by default; undefined where none was committed yet. */
export async function readGeneration(
  store: SessionStore,
  ref: SessionRef,
  generation: number | undefined,
  signal: AbortSignal,
): Promise<Commit | undefined> {
  if (generation === undefined) return await store.readNewest(ref, signal);
  return await store.readCommit(ref, generation, signal);
}
