import type { SessionStore } from "@longshore/session-store";
import { isSessionId, type SessionState, sessionOfMessageId } from "@longshore/shared";

/**
 * Whether a session is a tenant's. Its id does not say so; Redis does while it knows the session, and after
 * that the object store, where each tenant's sessions are apart.
 */
export class SessionAccess {
  readonly #state: SessionState;
  readonly #store: SessionStore;

  constructor(state: SessionState, store: SessionStore) {
    this.#state = state;
    this.#store = store;
  }

  /** `false` for a session of another tenant as for one that never was: the two must look the same. */
  async owns(tenant: string, sessionId: string, signal: AbortSignal): Promise<boolean> {
    if (!isSessionId(sessionId)) return false;
    const known = (await this.#state.inspect(sessionId)).tenant;
    if (known !== undefined) return known === tenant;
    return (await this.#store.readNewest({ tenant, sessionId }, signal)) !== undefined;
  }

  async ownsMessage(tenant: string, messageId: string, signal: AbortSignal): Promise<boolean> {
    const sessionId = sessionOfMessageId(messageId);
    return sessionId !== undefined && (await this.owns(tenant, sessionId, signal));
  }
}
