import { setTimeout as sleep } from "node:timers/promises";
import type { ApiClient } from "./api-client.ts";
import { messageSchema, operationSchema } from "./api-schemas.ts";
import { OperationFailedError, WaitTimeoutError } from "./errors.ts";
import { sessionPath } from "./session-files.ts";

/** How often it is looked whether an operation is applied, in ms, once the server does not wait any longer. */
const LOOK_MS = 1_000;

export interface OperationOptions {
  /** The longest wait, in seconds. */
  readonly timeout: number;
}

export interface AppliedOperation {
  readonly messageId: string;
  readonly sessionId: string;
  /** Made by it. */
  readonly generation: number;
}

/**
 * Asks for an operation on a session and waits until it is applied, which is when the messages before it are answered.
 *
 * @param what `push`, `rollback`
 * @param key by it, asking again is harmless
 * @throws OperationFailedError, WaitTimeoutError; those of the client
 */
export async function runOperation(
  client: ApiClient,
  sessionId: string,
  what: string,
  body: unknown,
  key: string,
  { timeout }: OperationOptions,
  signal: AbortSignal,
): Promise<AppliedOperation> {
  const path = `${sessionPath(sessionId)}/${what}`;
  const headers = { "idempotency-key": key };
  const accepted = await client.post(path, body, operationSchema, { signal, headers });
  const { messageId, generation } = accepted;
  return {
    messageId,
    sessionId,
    generation: generation ?? (await awaitApplied(client, messageId, timeout, signal)),
  };
}

/** The generation by which an operation is applied. @throws as `runOperation` */
export async function awaitApplied(
  client: ApiClient,
  messageId: string,
  timeoutSeconds: number,
  signal: AbortSignal,
): Promise<number> {
  const timeout = AbortSignal.timeout(timeoutSeconds * 1_000);
  for (;;) {
    const { state, error, generation } = await client.get(`/messages/${messageId}`, messageSchema, {
      signal,
    });
    if (state === "answered" && generation !== undefined) return generation;
    if (state === "dead" || state === "cancelled")
      throw new OperationFailedError(
        error?.code ?? "OPERATION_FAILED",
        error?.message ?? "it was given up on",
      );
    if (timeout.aborted) throw new WaitTimeoutError(messageId, timeoutSeconds);
    await sleep(LOOK_MS, undefined, { signal });
  }
}
