import type { FileHandle } from "node:fs/promises";
import type { SessionRef, SessionStore } from "@longshore/session-store";
import {
  type AgentDefinition,
  type Artifact,
  hashId,
  LongshoreError,
  SessionTree,
  type TreeOwner,
} from "@longshore/shared";
import mime from "mime";
import { ensureDirectory } from "./inbox.ts";

export interface CollectedFiles {
  readonly artifacts: readonly Artifact[];
  /** Files that could not be taken, each with the reason: named in the reply, left where they are. */
  readonly refused: readonly { readonly name: string; readonly reason: string }[];
}

/** How much of a file is in memory at once. */
const PART_BYTES = 1024 ** 2;

/** Entries of `outbox/` that are looked at; a turn with more has not made a reply of them. */
const ENTRIES_MAX = 1_000;

/**
 * Takes the regular files out of `outbox/` at the end of a turn: stored as artifacts, then removed, so that
 * they leave the directory with the same commit. Opened without following any link, and only with one name
 * (I7, I8). The sandbox has to be paused.
 */
export async function collectOutbox(
  store: SessionStore,
  ref: SessionRef,
  turnId: string,
  slotDirectory: string,
  {
    limits,
    owner,
    signal,
  }: { readonly limits: AgentDefinition["limits"]; readonly owner: TreeOwner; readonly signal: AbortSignal },
): Promise<CollectedFiles> {
  const tree = SessionTree.open(slotDirectory);
  try {
    await ensureDirectory(tree, "outbox", owner);
    const artifacts: Artifact[] = [];
    const refused: { name: string; reason: string }[] = [];
    let bytes = 0;
    for (const entry of await tree.list("outbox", { limit: ENTRIES_MAX })) {
      const shown = entry.name.toString();
      const refuse = (reason: string) => refused.push({ name: shown, reason });
      if (entry.type !== "file") refuse(`a ${entry.type}, not a regular file`);
      else if (artifacts.length === limits.attachments) refuse(`more than ${limits.attachments} files`);
      else {
        const path = Buffer.concat([Buffer.from("outbox/"), entry.name]);
        try {
          const { handle, stats } = await tree.openFile(path, { singleLink: true });
          try {
            if (bytes + stats.size > limits.attachmentBytes) {
              refuse(`more than ${limits.attachmentBytes} bytes together`);
              continue;
            }
            const artifact = {
              id: hashId("artifact", ref.sessionId, turnId, entry.name.toString("latin1")),
              name: shown,
              contentType: mime.getType(shown) ?? "application/octet-stream",
              sizeBytes: stats.size,
            };
            const content = {
              sizeBytes: stats.size,
              open: () => readParts(handle, stats.size),
            };
            await store.putArtifact(ref, artifact.id, shown, content, {
              contentType: artifact.contentType,
              signal,
            });
            bytes += stats.size;
            artifacts.push(artifact);
          } finally {
            await handle.close();
          }
          await tree.remove(path);
        } catch (error) {
          if (!(error instanceof LongshoreError) || error.retryable) throw error;
          refuse(error.message);
        }
      }
    }
    return { artifacts, refused };
  } finally {
    tree.close();
  }
}

async function* readParts(handle: FileHandle, sizeBytes: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < sizeBytes; ) {
    const part = Buffer.allocUnsafe(Math.min(PART_BYTES, sizeBytes - at));
    const { bytesRead } = await handle.read(part, 0, part.length, at);
    // Shorter than it was: the put fails for want of bytes, and the turn with it.
    if (bytesRead === 0) return;
    yield part.subarray(0, bytesRead);
    at += bytesRead;
  }
}
