import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline/promises";
import { LongshoreError } from "@longshore/shared";
import { acceptedSchema } from "./api-schemas.ts";
import { type CommandContext, type GlobalOptions, openClient } from "./command-context.ts";
import { composeMessage, type MessageOptions } from "./outgoing-message.ts";
import { converse } from "./send.ts";

export interface ChatOptions extends GlobalOptions, MessageOptions {
  /** Seconds that one answer may take. */
  readonly timeout: number;
}

const HELP =
  "A line is a message; /attach FILE adds a file (or a URL) to the next one; Ctrl-D or /quit ends.\n";

/**
 * `longshore chat`: each line of standard input is a message, its answer is shown before the next is read. Where the agent
 * asks something meanwhile, the next line is the answer. A message that fails is told and the chat goes on.
 */
export async function chat(context: CommandContext, options: ChatOptions): Promise<void> {
  const client = openClient(context, options);
  const { output, input } = context;
  const interactive = output.isTerminal && input.isTTY === true;
  if (interactive) output.note(`conversation ${options.conversation} with ${options.agent}\n${HELP}`);
  const reader = createInterface({ input, terminal: false, signal: context.signal });
  const lines = new ChatLines(reader);
  let attachments: string[] = [];
  const prompt = () => interactive && output.note("> ");
  /** The next line answers the agent's question, unless that is over by then. */
  const answerQuestion = async (isOver: () => boolean) => {
    prompt();
    const answer = await lines.peek();
    if (answer === undefined || isOver()) return;
    lines.take();
    const body = await composeMessage(randomUUID(), answer.trim(), options, []);
    await client.post("/messages", body, acceptedSchema, { signal: context.signal });
  };
  try {
    prompt();
    for (let line = await lines.next(); line !== undefined; line = await lines.next()) {
      const text = line.trim();
      if (text === "/quit") return;
      const attached = /^\/attach\s+(.+)$/.exec(text)?.[1];
      let isOver = false;
      try {
        if (attached !== undefined) attachments.push(attached);
        else if (text !== "") {
          const body = await composeMessage(randomUUID(), text, options, attachments);
          attachments = [];
          let asked = 0;
          await converse(context, client, body, options, () => {
            const question = ++asked;
            // One that was given up on waits no more for a line.
            answerQuestion(() => isOver || question !== asked).catch((error: unknown) => output.error(error));
          });
        }
      } catch (error) {
        if (!(error instanceof LongshoreError) || context.signal.aborted) throw error;
        attachments = [];
        output.error(error);
      } finally {
        isOver = true;
      }
      prompt();
    }
  } finally {
    reader.close();
  }
}

/** Lines that can be waited for in two places: whoever still needs one when it comes takes it. */
class ChatLines {
  readonly #lines: AsyncIterator<string>;
  #pending: Promise<string | undefined> | undefined;

  constructor(lines: AsyncIterable<string>) {
    this.#lines = lines[Symbol.asyncIterator]();
  }

  /** The next line, which stays the next one; undefined at the end. */
  async peek(): Promise<string | undefined> {
    this.#pending ??= this.#lines.next().then(({ value, done }) => (done === true ? undefined : value));
    return await this.#pending;
  }

  /** Takes the line that `peek` gave. */
  take(): void {
    this.#pending = undefined;
  }

  async next(): Promise<string | undefined> {
    const line = await this.peek();
    this.take();
    return line;
  }
}
