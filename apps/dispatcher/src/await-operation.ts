import type { SessionState } from "@longshore/shared";
import { OperationFailedError } from "./errors.ts";
import type { EventHub } from "./event-hub.ts";
import { followMessage } from "./follow-message.ts";

export interface AwaitOperationOptions {
  readonly state: SessionState;
  readonly hub: EventHub;
  readonly messageId: string;
  /** Ends the wait, not the operation. */
  readonly signal: AbortSignal;
}

/**
 * The generation by which an operation was applied; undefined where it was not yet when the signal ended the wait.
 *
 * @throws OperationFailedError where it never will be
 */
export async function awaitOperation(options: AwaitOperationOptions): Promise<number | undefined> {
  for await (const _ of followMessage(options));
  const record = await options.state.readMessage(options.messageId);
  if (record?.state === "dead" || record?.state === "cancelled")
    throw new OperationFailedError(
      record.error?.code ?? "OPERATION_FAILED",
      record.error?.message ?? "The operation was given up on",
    );
  return record?.state === "answered" ? record.generation : undefined;
}
