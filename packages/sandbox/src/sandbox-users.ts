import { createHash } from "node:crypto";
import { link, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "@longshore/shared";
import { SandboxUsersExhaustedError } from "./errors.ts";
import { PASSABLE_MODE, usersDirectory } from "./run-directory.ts";
import type { SandboxUser } from "./sandbox.ts";

export interface SandboxUsersOptions {
  readonly runDirectory: string;
  readonly workerId: string;
  /**
   * First user id of the range. Nothing else of the host may use the range.
   * @default one of 1,000 ranges from 200000 to 1199999, by the run directory: two fleets on a host hardly meet
   */
  readonly firstUid?: number;
  /** Size of the range: at least the places of all workers of the host. @default 1000 */
  readonly count?: number;
}

/**
 * Hands out the user ids of sandboxes, one a place, so that no two sandboxes of a host share one, whichever
 * worker started them.
 *
 * A claim is a hard link `users/<uid>` to a file with the worker's id: made at once and whole, or not at
 * all. A dead worker's claims are released by the reaper, after its sandboxes.
 */
export class SandboxUsers {
  readonly #directory: string;
  readonly #workerId: string;
  readonly #firstUid: number;
  readonly #count: number;
  /** Claimed by this worker: not tried again, since each place would try all that are taken. */
  readonly #claimed = new Set<number>();
  #ownFile: Promise<string> | undefined;

  constructor(options: SandboxUsersOptions) {
    this.#directory = usersDirectory(options.runDirectory);
    this.#workerId = options.workerId;
    this.#firstUid = options.firstUid ?? rangeOf(options.runDirectory);
    this.#count = options.count ?? 1_000;
  }

  /** @throws SandboxUsersExhaustedError */
  async acquire(): Promise<SandboxUser> {
    this.#ownFile ??= this.#writeOwnFile().catch((error: unknown) => {
      this.#ownFile = undefined;
      throw error;
    });
    const ownFile = await this.#ownFile;
    for (let uid = this.#firstUid; uid < this.#firstUid + this.#count; uid++) {
      if (this.#claimed.has(uid)) continue;
      this.#claimed.add(uid);
      try {
        await link(ownFile, join(this.#directory, String(uid)));
        return { uid, gid: uid };
      } catch (error) {
        this.#claimed.delete(uid);
        if (errnoOf(error) !== "EEXIST") throw error;
      }
    }
    throw new SandboxUsersExhaustedError(this.#firstUid, this.#count);
  }

  /** Gives a user back. Not to be called while anything of its sandbox may still run. */
  async release(user: SandboxUser): Promise<void> {
    await rm(join(this.#directory, String(user.uid)), { force: true });
    this.#claimed.delete(user.uid);
  }

  /** Releases everything of this worker. */
  async close(): Promise<void> {
    this.#ownFile = undefined;
    this.#claimed.clear();
    await releaseClaims(this.#directory, async (worker) => worker === this.#workerId);
  }

  async #writeOwnFile(): Promise<string> {
    await mkdir(this.#directory, { recursive: true, mode: PASSABLE_MODE });
    const path = join(this.#directory, `.${this.#workerId}`);
    await writeFile(path, this.#workerId, { mode: 0o600 });
    return path;
  }
}

function rangeOf(runDirectory: string): number {
  return 200_000 + 1_000 * (createHash("sha256").update(runDirectory).digest().readUInt32BE(0) % 1_000);
}

/** Removes the claims, and the file behind them, of every worker that is chosen. @returns how many */
export async function releaseClaims(
  directory: string,
  isChosen: (workerId: string) => Promise<boolean>,
): Promise<number> {
  let released = 0;
  for (const name of await namesIn(directory)) {
    const path = join(directory, name);
    const worker = name.startsWith(".") ? name.slice(1) : await readIfThere(path);
    if (worker === undefined || !(await isChosen(worker))) continue;
    await rm(path, { force: true });
    if (!name.startsWith(".")) released++;
  }
  return released;
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}
