import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline/promises";
import { LongshoreError } from "@longshore/shared";
import { type CommandContext, type GlobalOptions, openClient } from "./command-context.ts";
import { composeMessage, type MessageOptions } from "./outgoing-message.ts";
import { converse } from "./send.ts";

export interface ChatOptions extends GlobalOptions, MessageOptions {
  /** Seconds that one answer may take. */
  readonly timeout: number;
}

const HELP = "A line is a message; /attach FILE adds a file to the next one; Ctrl-D or /quit ends.\n";

/**
 * `longshore chat`: each line of standard input is a message, its answer is shown before the next is read.
 * A message that fails is told and the chat goes on.
 */
export async function chat(context: CommandContext, options: ChatOptions): Promise<void> {
  const client = openClient(context, options);
  const { output, input } = context;
  const interactive = output.isTerminal && input.isTTY === true;
  if (interactive) output.note(`conversation ${options.conversation} with ${options.agent}\n${HELP}`);
  const lines = createInterface({ input, terminal: false, signal: context.signal });
  let attachments: string[] = [];
  const prompt = () => interactive && output.note("> ");
  try {
    prompt();
    for await (const line of lines) {
      const text = line.trim();
      if (text === "/quit") return;
      const attached = /^\/attach\s+(.+)$/.exec(text)?.[1];
      try {
        if (attached !== undefined) attachments.push(attached);
        else if (text !== "") {
          const body = await composeMessage(randomUUID(), text, options, attachments);
          attachments = [];
          await converse(context, client, body, options);
        }
      } catch (error) {
        if (!(error instanceof LongshoreError) || context.signal.aborted) throw error;
        attachments = [];
        output.error(error);
      }
      prompt();
    }
  } finally {
    lines.close();
  }
}
