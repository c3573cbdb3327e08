import { setTimeout as sleep } from "node:timers/promises";
import { cancelledTurnSchema, messageSchema } from "./api-schemas.ts";
import { type CommandContext, type GlobalOptions, openClient } from "./command-context.ts";
import { WaitTimeoutError } from "./errors.ts";
import { columns } from "./output.ts";
import { sessionPath } from "./session-files.ts";

/** How often it is looked whether the messages have ended, in ms. */
const LOOK_MS = 500;

/** `longshore sessions cancel`: ends a turn, and waits until its messages have ended: cancelled, or just answered. */
export async function cancelTurn(
  context: CommandContext,
  sessionId: string,
  options: GlobalOptions & { readonly turn?: string; readonly timeout: number },
): Promise<void> {
  const client = openClient(context, options);
  const { signal } = context;
  const body = options.turn === undefined ? {} : { turnId: options.turn };
  const path = `${sessionPath(sessionId)}/cancel`;
  const { turnId, messageIds } = await client.post(path, body, cancelledTurnSchema, { signal });
  const timeout = AbortSignal.timeout(options.timeout * 1_000);
  const messages: { readonly messageId: string; readonly state: string }[] = [];
  for (const messageId of messageIds) {
    for (;;) {
      const { state } = await client.get(`/messages/${messageId}`, messageSchema, { signal });
      if (state !== "accepted" && state !== "running") {
        messages.push({ messageId, state });
        break;
      }
      if (timeout.aborted) throw new WaitTimeoutError(messageId, options.timeout);
      await sleep(LOOK_MS, undefined, { signal });
    }
  }
  context.output.result({ turnId, messages }, () =>
    messages.length === 0
      ? `turn ${turnId} was cancelled before\n`
      : columns(messages.map(({ messageId, state }) => [messageId, state])),
  );
}
