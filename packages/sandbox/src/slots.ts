// biome-ignore-all lint/style/noRestrictedImports: the directory of slots is the host's; what is in a slot is SessionTree's

import { chmod, chown, mkdir, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, PathNotFoundError, SessionTree } from "@longshore/shared";
import { SandboxSpecError } from "./errors.ts";
import { PASSABLE_MODE, slotsDirectory } from "./run-directory.ts";
import type { SandboxUser } from "./sandbox.ts";
import { isSafeName } from "./validate-spec.ts";

/** What every session directory has: the places of its agent and of its messages. */
export const SESSION_DIRECTORIES: readonly string[] = ["workspace", "home", "inbox", "outbox"];
const PRIVATE_MODE = 0o700;
const REMOVING = ".removing-";

/**
 * The slots of one worker: the directories that are mounted into sandboxes as `/session`, one an
 * activation, named by its nonce.
 */
export class Slots {
  readonly #directory: string;

  constructor(runDirectory: string, workerId: string) {
    this.#directory = slotsDirectory(runDirectory, workerId);
  }

  path(nonce: string): string {
    if (!isSafeName(nonce, 64)) throw new SandboxSpecError("nonce", "letters, digits, _ . and -, at most 64");
    return join(this.#directory, nonce);
  }

  /**
   * Makes an empty slot for its owner alone; one that is there already is left as it is.
   * @returns its path
   */
  async create(nonce: string, owner: SandboxUser): Promise<string> {
    const path = this.path(nonce);
    await mkdir(this.#directory, { recursive: true, mode: PASSABLE_MODE });
    await chmod(this.#directory, PASSABLE_MODE);
    try {
      await mkdir(path, { mode: PRIVATE_MODE });
      await chown(path, owner.uid, owner.gid);
    } catch (error) {
      if (errnoOf(error) !== "EEXIST") throw error;
    }
    return path;
  }

  /**
   * Makes the session's four directories directories: before the restore, so that a sandbox can start in its
   * working directory meanwhile, and after a turn, so that the next one can. What an agent put in the place
   * of one, a link out of the sandbox perhaps, is removed and not followed (I8).
   */
  async furnish(nonce: string, owner: SandboxUser): Promise<void> {
    using tree = SessionTree.open(this.path(nonce));
    for (const name of SESSION_DIRECTORIES) {
      if (await isDirectory(tree, name)) continue;
      await tree.remove(name, { recursive: true, missingOk: true });
      await tree.makeDirectory(name, { mode: PRIVATE_MODE, owner });
    }
  }

  /**
   * Removes a slot with all that is in it, following no link, also while somebody still writes there. It
   * is out of the way at once; a removal that is cut off is finished by the reaper. Nothing to do if it is
   * gone.
   */
  async remove(nonce: string): Promise<void> {
    const path = this.path(nonce);
    try {
      await rename(path, join(this.#directory, `${REMOVING}${nonce}`));
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
    }
    await removeSlotEntry(this.#directory, `${REMOVING}${nonce}`);
  }
}

async function isDirectory(tree: SessionTree, name: string): Promise<boolean> {
  try {
    return (await tree.lstat(name)).isDirectory();
  } catch (error) {
    if (error instanceof PathNotFoundError) return false;
    throw error;
  }
}

/** Removes entries of a worker's slots: all of them, or those only whose removal was cut off. */
export async function removeSlots(directory: string, which: "all" | "cut-off"): Promise<number> {
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return 0;
    throw error;
  }
  const chosen = names.filter((name) => which === "all" || name.startsWith(REMOVING));
  for (const name of chosen) await removeSlotEntry(directory, name);
  return chosen.length;
}

async function removeSlotEntry(directory: string, name: string): Promise<void> {
  using tree = SessionTree.open(directory);
  await tree.remove(name, { recursive: true, missingOk: true });
}
