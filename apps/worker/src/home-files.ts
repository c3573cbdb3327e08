// biome-ignore lint/style/noRestrictedImports: the operator's directory, which no sandbox ever saw
import { createReadStream } from "node:fs";
// biome-ignore lint/style/noRestrictedImports: the same
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import type { FileTable } from "@longshore/session-store";
import { SessionTree, type TreeOwner } from "@longshore/shared";
import { HomeUnreadableError } from "./errors.ts";

const HOME = "home";

/** Whether a session has anything in its home: from then on it is its own. */
export function hasHomeFiles(table: FileTable): boolean {
  return table.paths().some((path) => path.startsWith(`${HOME}/`));
}

/**
 * Gives a session's `HOME` the files and directories of an operator's directory, with their modes for the owner. What the
 * agent, which may be starting up already, put in their places is replaced; no link of its is followed (I8).
 *
 * @throws HomeUnreadableError also where something is neither a file nor a directory; errors of `node:fs`
 */
export async function furnishHome(
  slotDirectory: string,
  source: string,
  owner: TreeOwner,
  signal: AbortSignal,
): Promise<void> {
  const tree = SessionTree.open(slotDirectory);
  try {
    for (const path of await pathsBelow(source)) {
      signal.throwIfAborted();
      const target = `${HOME}/${path}`;
      const stats = await reading(source, () => lstat(join(source, path)));
      const mode = stats.mode & 0o700;
      await tree.remove(target, { recursive: true, missingOk: true, signal });
      if (stats.isDirectory()) await tree.makeDirectory(target, { mode: mode | 0o700, owner });
      else if (stats.isFile()) {
        const file = await tree.createFile(target, { mode, owner, exclusive: true });
        await pipeline(createReadStream(join(source, path)), file.createWriteStream(), { signal });
      } else throw new HomeUnreadableError(source, `${path} is neither a file nor a directory`);
    }
  } finally {
    tree.close();
  }
}

/** A directory before what is in it. */
async function pathsBelow(source: string): Promise<string[]> {
  // biome-ignore lint/plugin: the operator's directory, which no sandbox ever saw
  const entries = await reading(source, () => readdir(source, { recursive: true }));
  return entries.sort();
}

async function reading<T>(source: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw new HomeUnreadableError(source, (error as Error).message, error);
  }
}
