import { lstat, opendir } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import type { Prompt, PromptMessage } from "./prompt.ts";

/** Entries that are looked at, and paths that are named, in one observation. */
const ENTRY_LIMIT = 10_000;
const NAMED_LIMIT = 50;

/** Where the fleet shows messages' files and takes the agent's own; `home` holds only what is not news. */
const PARTS = ["workspace", "inbox", "outbox"];

/**
 * Says what the agent saw: the message, its attachments, the files of the session directory and how much
 * it remembers. The answer to any message that is no command.
 *
 * @param contents What came in the prompt itself.
 * @param cwd The session's `workspace`; its siblings `inbox` and `outbox` are looked at too.
 * @param remembered Messages of earlier turns.
 */
export async function describeObservation(
  message: PromptMessage,
  { attachments, contents }: Pick<Prompt, "attachments" | "contents">,
  cwd: string,
  remembered: number,
): Promise<string> {
  const from = message.sender ?? "someone";
  const where = message.conversation === undefined ? "" : ` in ${message.conversation}`;
  const lines = [`I saw a message of ${message.text.length} characters from ${from}${where}.`];
  for (const attachment of attachments) {
    lines.push(`Attachment ${attachment.name}: ${await describeFile(attachment.path)}`);
  }
  for (const { uri, mimeType, sizeBytes } of contents)
    lines.push(`In the prompt ${basename(uri)}: ${mimeType}, ${sizeBytes} bytes`);
  lines.push(...(await describeFiles(cwd)));
  lines.push(`I remember ${remembered} earlier ${remembered === 1 ? "message" : "messages"}.`);
  return lines.join("\n");
}

async function describeFiles(cwd: string): Promise<string[]> {
  const root = basename(cwd) === "workspace" ? dirname(cwd) : cwd;
  const starts = root === cwd ? [cwd] : PARTS.map((part) => join(root, part));
  const files: string[] = [];
  let looked = 0;
  for (let directory = starts.shift(); directory !== undefined; directory = starts.shift()) {
    const entries = await opendir(directory).catch(() => undefined);
    for await (const entry of entries ?? []) {
      looked += 1;
      if (looked > ENTRY_LIMIT) {
        return [`Files: more than ${ENTRY_LIMIT}.`];
      }
      const path = join(directory, entry.name);
      if (entry.isDirectory()) {
        starts.push(path);
      } else {
        files.push(path);
      }
    }
  }
  const named = await Promise.all(
    files
      .sort()
      .slice(0, NAMED_LIMIT)
      .map(async (path) => `- ${relative(root, path)}: ${await describeFile(path)}`),
  );
  const rest = files.length - named.length;
  return [`Files: ${files.length}.`, ...named, ...(rest > 0 ? [`- and ${rest} more`] : [])];
}

async function describeFile(path: string): Promise<string> {
  try {
    const stat = await lstat(path);
    return stat.isFile() ? `${stat.size} bytes` : "no regular file";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "unreadable";
  }
}
