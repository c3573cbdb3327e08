// biome-ignore-all lint/style/noRestrictedImports: the directory of slots is the host's; what is in a slot is SessionTree's

import { chmod, chown, mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, PathNotFoundError, SessionTree } from "@longshore/shared";
import { SandboxSpecError } from "./errors.ts";
import { imagesDirectory, PASSABLE_MODE, slotsDirectory } from "./run-directory.ts";
import type { SandboxRuntime, SandboxUser } from "./sandbox.ts";
import { type DiskQuota, type SlotDisks, unmountSlot } from "./slot-disks.ts";
import { isSafeName } from "./validate-spec.ts";

/** What every session directory has: the places of its agent and of its messages. */
export const SESSION_DIRECTORIES: readonly string[] = ["workspace", "home", "inbox", "outbox"];
const PRIVATE_MODE = 0o700;
const REMOVING = ".removing-";

/** What a slot is for. */
export interface SlotUse {
  readonly runtime: SandboxRuntime["name"];
  /** Kept to where `isBounded`. */
  readonly quota: DiskQuota;
}

/**
 * The slots of one worker: the directories that are mounted into sandboxes as `/session`, one an
 * activation, named by its nonce.
 */
export class Slots {
  readonly #directory: string;
  readonly #images: string;
  readonly #disks: SlotDisks | undefined;

  /** @param disks what gives slots file systems of their own; without it, what is in them is not bounded here */
  constructor(runDirectory: string, workerId: string, disks?: SlotDisks) {
    this.#directory = slotsDirectory(runDirectory, workerId);
    this.#images = imagesDirectory(runDirectory, workerId);
    this.#disks = disks;
  }

  /** Whether the kernel keeps slots for sandboxes of a runtime to their quota. */
  isBounded(runtime: SandboxRuntime["name"]): boolean {
    return this.#disks?.isSeenBy(runtime) === true;
  }

  path(nonce: string): string {
    if (!isSafeName(nonce, 64)) throw new SandboxSpecError("nonce", "letters, digits, _ . and -, at most 64");
    return join(this.#directory, nonce);
  }

  /**
   * Makes a slot for its owner alone; what is in one that is there already is left as it is.
   * @param use what for. @default without a bound
   * @param directories made in it, for its owner alone too. @default those of a session
   * @returns its path
   * @throws SlotDiskError
   */
  async create(
    nonce: string,
    owner: SandboxUser,
    use?: SlotUse,
    directories = SESSION_DIRECTORIES,
  ): Promise<string> {
    const path = this.path(nonce);
    try {
      await this.#makeDirectory(path);
    } catch (error) {
      if (errnoOf(error) !== "EEXIST") throw error;
      await this.#furnish(nonce, owner, directories);
      return path;
    }
    try {
      if (use !== undefined && this.isBounded(use.runtime)) {
        const { quota } = use;
        await this.#disks?.mount(join(this.#images, nonce), path, { quota, owner, directories });
      } else {
        await this.#furnish(nonce, owner, directories);
        await chown(path, owner.uid, owner.gid);
      }
    } catch (error) {
      await this.remove(nonce);
      throw error;
    }
    return path;
  }

  async #makeDirectory(path: string): Promise<void> {
    try {
      await mkdir(path, { mode: PRIVATE_MODE });
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
      // The worker's first one.
      await mkdir(this.#directory, { recursive: true, mode: PASSABLE_MODE });
      await chmod(this.#directory, PASSABLE_MODE);
      await mkdir(path, { mode: PRIVATE_MODE });
    }
  }

  /**
   * Makes the session's four directories directories again: after a turn, so that the next one can begin. What an agent put
   * in the place of one, a link out of the sandbox perhaps, is removed and not followed (I8).
   */
  async furnish(nonce: string, owner: SandboxUser): Promise<void> {
    await this.#furnish(nonce, owner, SESSION_DIRECTORIES);
  }

  async #furnish(nonce: string, owner: SandboxUser, directories: readonly string[]): Promise<void> {
    if (directories.length === 0) return;
    using tree = SessionTree.open(this.path(nonce));
    const made = directories.map(async (name) => {
      if (await isDirectory(tree, name)) return;
      await tree.remove(name, { recursive: true, missingOk: true });
      await tree.makeDirectory(name, { mode: PRIVATE_MODE, owner });
    });
    // The tree is open until all of them are over.
    await Promise.allSettled(made);
    await Promise.all(made);
  }

  /**
   * Removes a slot with all that is in it, following no link, also while somebody still writes there. It
   * is out of the way at once; a removal that is cut off is finished by the reaper. Nothing to do if it is
   * gone.
   */
  async remove(nonce: string): Promise<void> {
    const path = this.path(nonce);
    // Before the mount: what was not written to the disk yet need not be.
    await rm(join(this.#images, nonce), { force: true });
    await unmountSlot(path);
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
  await unmountSlot(join(directory, name));
  using tree = SessionTree.open(directory);
  await tree.remove(name, { recursive: true, missingOk: true });
}
