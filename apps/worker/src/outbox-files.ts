import type { FileHandle } from "node:fs/promises";
import { posix } from "node:path";
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
import { agentPath } from "./agent-path.ts";
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

/** Of a path that is refused, in characters. */
const NAME_SHOWN = 256;

export interface CollectOptions {
  /** Paths of files that the agent named, as it named them; those below `workspace/` stay where they are. @default none */
  readonly named?: readonly string[];
  /** Whether those of `outbox/` stay, too. @default false */
  readonly stay?: boolean;
  /** Whether the files of `outbox/` go with it. @default true */
  readonly outbox?: boolean;
  readonly limits: Pick<AgentDefinition["limits"], "attachments" | "attachmentBytes">;
  readonly owner: TreeOwner;
  readonly signal: AbortSignal;
}

/** A file that may go with a reply. */
interface Candidate {
  /** What the reply calls it. */
  readonly name: string;
  readonly path: Buffer;
  /** Whether it leaves the directory with the reply. */
  readonly leaves: boolean;
}

/**
 * Makes artifacts of the files that go with a turn's reply: those that the agent named, and the regular files of
 * `outbox/`, which are removed, so that they leave the directory with the same commit. Opened without following any
 * link, and only with one name (I7, I8). The sandbox has to be paused.
 *
 * @param collectedIn what they are collected for, such as a turn: the same file is another artifact in another one
 */
export async function collectFiles(
  store: SessionStore,
  ref: SessionRef,
  collectedIn: string,
  slotDirectory: string,
  { named = [], stay = false, outbox = true, limits, owner, signal }: CollectOptions,
): Promise<CollectedFiles> {
  const tree = SessionTree.open(slotDirectory);
  try {
    const artifacts: Artifact[] = [];
    const refused: { name: string; reason: string }[] = [];
    const candidates = namedCandidates(named, refused);
    await ensureDirectory(tree, "outbox", owner);
    const known = new Set(candidates.map(({ path }) => path.toString("latin1")));
    for (const { name, type } of outbox ? await tree.list("outbox", { limit: ENTRIES_MAX }) : []) {
      const shown = name.toString();
      const path = Buffer.concat([Buffer.from("outbox/"), name]);
      if (known.has(path.toString("latin1"))) continue;
      if (type !== "file") refused.push({ name: shown, reason: `a ${type}, not a regular file` });
      else candidates.push({ name: shown, path, leaves: true });
    }
    let bytes = 0;
    for (const { name, path, leaves } of candidates) {
      const refuse = (reason: string) => refused.push({ name, reason });
      if (artifacts.length === limits.attachments) {
        refuse(`more than ${limits.attachments} files`);
        continue;
      }
      try {
        const { handle, stats } = await tree.openFile(path, { singleLink: true });
        try {
          if (bytes + stats.size > limits.attachmentBytes) {
            refuse(`more than ${limits.attachmentBytes} bytes together`);
            continue;
          }
          const artifact = {
            id: hashId("artifact", ref.sessionId, collectedIn, path.toString("latin1")),
            name,
            contentType: mime.getType(name) ?? "application/octet-stream",
            sizeBytes: stats.size,
          };
          const content = { sizeBytes: stats.size, open: () => readParts(handle, stats.size) };
          const { contentType } = artifact;
          await store.putArtifact(ref, artifact.id, name, content, { contentType, signal });
          bytes += stats.size;
          artifacts.push(artifact);
        } finally {
          await handle.close();
        }
        if (leaves && !stay) await leaveOutbox(tree, path);
      } catch (error) {
        if (!(error instanceof LongshoreError) || error.retryable) throw error;
        refuse(error.message);
      }
    }
    return { artifacts, refused };
  } finally {
    tree.close();
  }
}

function namedCandidates(named: readonly string[], refused: { name: string; reason: string }[]): Candidate[] {
  return named.flatMap((path): Candidate[] => {
    const inSession = agentPath(path);
    if (inSession !== undefined)
      return [
        {
          name: posix.basename(inSession),
          path: Buffer.from(inSession),
          leaves: inSession.startsWith("outbox/"),
        },
      ];
    refused.push({ name: path.slice(0, NAME_SHOWN), reason: "it is not below workspace/ or outbox/" });
    return [];
  });
}

/** Removes a file of `outbox/`, and with the last one the directory that an agent made for it there. */
async function leaveOutbox(tree: SessionTree, path: Buffer): Promise<void> {
  await tree.remove(path);
  const directory = posix.dirname(path.toString("latin1"));
  if (directory === "outbox") return;
  const entries = await tree.list(Buffer.from(directory, "latin1"), { limit: 1 }).catch(() => undefined);
  if (entries?.length === 0)
    await tree.remove(Buffer.from(directory, "latin1"), { recursive: true, missingOk: true });
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
