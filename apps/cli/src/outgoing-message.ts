import { open } from "node:fs/promises";
import { basename } from "node:path";
import { MESSAGE_ATTACHMENTS_MAX } from "@longshore/shared";
import { UsageError } from "./errors.ts";

/** The largest file that is read into memory as an attachment; the agent's own limit is lower or equal. */
const ATTACHMENT_BYTES_MAX = 1024 ** 3;

export interface MessageOptions {
  readonly agent: string;
  readonly channel: string;
  readonly conversation: string;
  readonly thread?: string;
  readonly sender: string;
}

/** The body of `POST /v1/messages`. An attachment is a path, or a URL for the dispatcher to get. */
export async function composeMessage(
  id: string,
  text: string,
  { agent, channel, conversation, thread, sender }: MessageOptions,
  attachments: readonly string[],
): Promise<Record<string, unknown>> {
  if (attachments.length > MESSAGE_ATTACHMENTS_MAX) {
    throw new UsageError(`at most ${MESSAGE_ATTACHMENTS_MAX} attachments, not ${attachments.length}`);
  }
  const files: ({ name: string; data: string } | { url: string })[] = [];
  for (const given of attachments)
    files.push(isUrl(given) ? { url: given } : { name: basename(given), data: await readBase64(given) });
  return {
    id,
    agent,
    channel,
    conversation,
    ...(thread === undefined ? {} : { thread }),
    sender: { id: sender },
    text,
    sentAt: new Date().toISOString(),
    ...(files.length === 0 ? {} : { attachments: files }),
  };
}

function isUrl(given: string): boolean {
  return /^https?:\/\//i.test(given);
}

async function readBase64(path: string): Promise<string> {
  try {
    await using file = await open(path);
    const { size } = await file.stat();
    if (size > ATTACHMENT_BYTES_MAX)
      throw new Error(`it has ${size} bytes, at most ${ATTACHMENT_BYTES_MAX} are allowed`);
    return (await file.readFile()).toString("base64");
  } catch (error) {
    throw new UsageError(`can't attach ${JSON.stringify(path)}: ${(error as Error).message}`);
  }
}
