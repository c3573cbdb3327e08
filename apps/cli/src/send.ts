import { randomUUID } from "node:crypto";
import { text as readAll } from "node:stream/consumers";
import type { ApiClient } from "./api-client.ts";
import { acceptedSchema } from "./api-schemas.ts";
import { type CommandContext, type GlobalOptions, openClient, openStatusLine } from "./command-context.ts";
import { UsageError, WaitTimeoutError } from "./errors.ts";
import { type MessageWatcher, watchMessage } from "./message-watch.ts";
import { composeMessage, type MessageOptions } from "./outgoing-message.ts";
import { ReplyPrinter } from "./reply-printer.ts";

export interface SendOptions extends GlobalOptions, MessageOptions {
  readonly id?: string;
  readonly attach: readonly string[];
  /** When the message is to be answered at the earliest. */
  readonly notBefore?: string;
  /** `--no-wait` clears it. */
  readonly wait: boolean;
  /** Seconds. */
  readonly timeout: number;
  /** Write text as it comes although no terminal watches. */
  readonly stream?: boolean;
}

/** `longshore send`: sends one message, shows what becomes of it, writes the replies. */
export async function send(context: CommandContext, given: string, options: SendOptions): Promise<void> {
  const text = given === "-" ? await readAll(context.input) : given;
  const composed = await composeMessage(options.id ?? randomUUID(), text, options, options.attach);
  const notBefore = options.notBefore === undefined ? undefined : readTime(options.notBefore);
  const body = { ...composed, ...(notBefore === undefined ? {} : { notBefore }) };
  const client = openClient(context, options);
  if (!options.wait || notBefore !== undefined) {
    const accepted = await client.post("/messages", body, acceptedSchema, { signal: context.signal });
    context.output.result(accepted, () => `${accepted.messageId}\n`);
    return;
  }
  await converse(context, client, body, options);
}

function readTime(text: string): string {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) throw new UsageError("--not-before: a time such as 2030-01-31T09:00Z");
  return time.toISOString();
}

/**
 * Sends a message and shows it until it has ended; throws `MessageDeadError`, `WaitTimeoutError`.
 *
 * @param onQuestion told when the agent waits for the next message
 */
export async function converse(
  context: CommandContext,
  client: ApiClient,
  body: Record<string, unknown>,
  options: Pick<SendOptions, "timeout" | "stream">,
  onQuestion: () => void = () => undefined,
): Promise<void> {
  const { output } = context;
  const status = openStatusLine(context);
  const streams = !output.json && (output.isTerminal || options.stream === true);
  const printer = new ReplyPrinter({ output, status, streams });
  const timeout = AbortSignal.timeout(options.timeout * 1_000);
  const signal = AbortSignal.any([context.signal, timeout]);
  let messageId = "(not accepted yet)";
  try {
    status?.show("sending");
    const accepted = await client.post("/messages", body, acceptedSchema, { signal });
    messageId = accepted.messageId;
    const { onStatus, onText, onTool, onRetry } = printer;
    const watcher: MessageWatcher = {
      ...{ onStatus, onText, onTool, onRetry },
      onQuestion: (question) => {
        printer.onQuestion(question);
        onQuestion();
      },
    };
    printer.end(await watchMessage(client, accepted, watcher, signal));
  } catch (error) {
    if (timeout.aborted && !context.signal.aborted) throw new WaitTimeoutError(messageId, options.timeout);
    throw error;
  } finally {
    status?.hide();
  }
}
