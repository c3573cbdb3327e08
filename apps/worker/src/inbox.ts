import { pipeline } from "node:stream/promises";
import type { SessionRef, SessionStore } from "@longshore/session-store";
import { type AcceptedMessage, PathNotFoundError, SessionTree, type TreeOwner } from "@longshore/shared";
import { inboxDirectory } from "./prompt.ts";

/** Makes `path` a directory, whatever the agent put there: a link or a file in its place is removed (I8). */
export async function ensureDirectory(tree: SessionTree, path: string, owner: TreeOwner): Promise<void> {
  const existing = await tree.lstat(path).catch((error: unknown) => {
    if (error instanceof PathNotFoundError) return undefined;
    throw error;
  });
  if (existing?.isDirectory()) return;
  if (existing !== undefined) await tree.remove(path, { recursive: true });
  await tree.makeDirectory(path, { mode: 0o700, owner });
}

/**
 * Writes a message's attachments into `inbox/<messageId>/`. What an earlier attempt left there is replaced,
 * and no link that the agent made is followed.
 */
export async function writeAttachments(
  store: SessionStore,
  ref: SessionRef,
  message: AcceptedMessage,
  slotDirectory: string,
  owner: TreeOwner,
  signal: AbortSignal,
): Promise<void> {
  if (message.attachments.length === 0) return;
  const tree = SessionTree.open(slotDirectory);
  try {
    await ensureDirectory(tree, "inbox", owner);
    const directory = inboxDirectory(message.id);
    await tree.remove(directory, { recursive: true, missingOk: true });
    await tree.makeDirectory(directory, { mode: 0o700, owner });
    for (const attachment of message.attachments) {
      const content = await store.openInbound(ref, attachment.sha256, signal);
      const file = await tree.createFile(`${directory}/${attachment.name}`, {
        mode: 0o600,
        owner,
        exclusive: true,
      });
      await pipeline(content.stream(), file.createWriteStream(), { signal });
    }
  } finally {
    tree.close();
  }
}
