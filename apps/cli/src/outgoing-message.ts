import { open } from "node:fs/promises";
import { basename } from "node:path";
import { MESSAGE_ATTACHMENTS_MAX } from "@longshore/shared";
import { UsageError } from "./errors.ts";

/** What the files of a message may have together: more would make a longer request than a dispatcher takes (500 MiB). */
const ATTACHMENT_BYTES_MAX = 370 * 1024 ** 2;

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
  let roomBytes = ATTACHMENT_BYTES_MAX;
  for (const given of attachments) {
    if (isUrl(given)) files.push({ url: given });
    else {
      const content = await readWithin(given, roomBytes);
      roomBytes -= content.length;
      files.push({ name: basename(given), data: content.toString("base64") });
    }
  }
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

async function readWithin(path: string, roomBytes: number): Promise<Buffer> {
  try {
    await using file = await open(path);
    const { size } = await file.stat();
    if (size > roomBytes)
      throw new Error(
        `it has ${size} bytes; the files of a message may have ${ATTACHMENT_BYTES_MAX} together, more only by URL`,
      );
    return await file.readFile();
  } catch (error) {
    throw new UsageError(`can't attach ${JSON.stringify(path)}: ${(error as Error).message}`);
  }
}
