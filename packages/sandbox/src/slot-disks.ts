// biome-ignore-all lint/style/noRestrictedImports: images and mount points are the host's, and no sandbox sees them

import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, lstat, mkdir, open, readFile, realpath, rename, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { errnoOf } from "@longshore/shared";
import { locateProgram } from "./bwrap/host-tools.ts";
import { SlotDiskError } from "./errors.ts";
import { HOST_PROGRAM, hostProgramProblem } from "./host-program.ts";
import { type Mount, parseMountInfo } from "./mount-info.ts";
import { imagesDirectory, PASSABLE_MODE, slotsDirectory, templatesDirectory } from "./run-directory.ts";
import type { SandboxRuntime, SandboxUser } from "./sandbox.ts";

/** What of a session directory is stored may have. */
export interface DiskQuota {
  /** Content of its files, in bytes. */
  readonly bytes: number;
  /** Files, directories and links. */
  readonly files: number;
}

const BLOCK_BYTES = 4096;
const INODE_BYTES = 256;
const MIB = 1024 ** 2;
/** The longest file of ext4 with its usual blocks is 16 TiB: a bound beyond that is not kept. */
const IMAGE_BYTES_MAX = 15 * 1024 ** 4;
const PROGRAM_TIMEOUT_MS = 30_000;

/**
 * What a session directory may take on the host: its quota, with a block for the end of each file, and as many names again for
 * those that are not stored (`exclude`), FIFOs and sockets.
 */
export function diskSpaceOf({ bytes, files }: DiskQuota): DiskQuota {
  return { bytes: bytes + files * BLOCK_BYTES, files: files * 2 };
}

/**
 * Gives slots file systems of their own, which bound what is in them: an ext4 image in a sparse file, mounted by a loop device.
 *
 * The alternatives are worse: the owner of a file may take it out of a project's quota (Linux, `fileattr_set_prepare`: the
 * project may be changed in the first user namespace, in which Docker's sandboxes are), quotas by user need a file system
 * that was made and mounted for it, and a tmpfs takes the host's memory.
 */
export class SlotDisks {
  readonly #mkfs: string;
  readonly #templates: string;
  readonly #isShared: boolean;

  private constructor(mkfs: string, runDirectory: string, isShared: boolean) {
    this.#mkfs = mkfs;
    this.#templates = templatesDirectory(runDirectory);
    this.#isShared = isShared;
  }

  /**
   * Makes one, mounts it and removes it, since being root says nothing about being allowed to.
   * @param workerId where it is one of the worker's slots meanwhile, so that the reaper removes it should the worker be killed
   * @throws SlotDiskError that says what is missing
   */
  static async open(runDirectory: string, workerId?: string): Promise<SlotDisks> {
    await mkdir(runDirectory, { recursive: true, mode: PASSABLE_MODE });
    const problem = await hostProgramProblem();
    if (problem !== undefined) throw new SlotDiskError(problem);
    const mkfs = locateProgram("mkfs.ext4");
    if (mkfs === undefined) throw new SlotDiskError("mkfs.ext4 is missing: install the package e2fsprogs");
    const disks = new SlotDisks(mkfs, runDirectory, await isShared(runDirectory));
    const name = `.disk-${randomBytes(8).toString("hex")}`;
    const slots = workerId === undefined ? runDirectory : slotsDirectory(runDirectory, workerId);
    const images = workerId === undefined ? runDirectory : imagesDirectory(runDirectory, workerId);
    const [slot, image] = [join(slots, name), join(images, `${name}.image`)];
    await mkdir(slots, { recursive: true, mode: PASSABLE_MODE });
    // Whatever the umask; the run directory is the caller's.
    if (workerId !== undefined) await chmod(slots, PASSABLE_MODE);
    await mkdir(slot);
    try {
      await disks.mount(image, slot, { quota: { bytes: MIB, files: 16 }, owner: { uid: 0, gid: 0 } });
    } finally {
      await unmountSlot(slot);
      await rmdir(slot);
      await rm(image, { force: true });
    }
    return disks;
  }

  /**
   * Whether a runtime's sandboxes see what is mounted here: bubblewrap starts in the worker's own mount namespace, an engine may
   * be in another one, which is told only where the mount of the run directory is shared.
   */
  isSeenBy(runtime: SandboxRuntime["name"]): boolean {
    return runtime === "bwrap" || this.#isShared;
  }

  /**
   * Makes an image and mounts it at a directory that is empty.
   * @param image where there is nothing yet
   * @param use.directories made in it, for its owner alone like the slot itself. @default none
   * @throws SlotDiskError: the image, or both, may be there then
   */
  async mount(
    image: string,
    slot: string,
    {
      quota,
      owner,
      directories = [],
    }: {
      readonly quota: DiskQuota;
      readonly owner: SandboxUser;
      readonly directories?: readonly string[];
    },
  ): Promise<void> {
    const { bytes, files } = diskSpaceOf(quota);
    const template = join(this.#templates, `${bytes}-${files}`);
    const [hasTemplate] = await Promise.all([
      isThere(template),
      mkdir(dirname(image), { recursive: true, mode: PASSABLE_MODE }),
    ]);
    if (!hasTemplate) await this.#makeTemplate(template, { bytes, files });
    await run(HOST_PROGRAM, ["mount", template, image, slot, `${owner.uid}`, `${owner.gid}`, ...directories]);
  }

  /** Of an empty file system with room for so much. Without a journal, since nobody reads it after a crash. */
  async #makeTemplate(path: string, { bytes, files }: DiskQuota): Promise<void> {
    const size = Math.min(bytes + files * INODE_BYTES + 16 * MIB, IMAGE_BYTES_MAX);
    await mkdir(this.#templates, { recursive: true, mode: PASSABLE_MODE });
    const unfinished = `${path}.${randomBytes(6).toString("hex")}`;
    try {
      const file = await open(unfinished, "wx", 0o600);
      try {
        await file.truncate(size);
      } finally {
        await file.close();
      }
      await run(this.#mkfs, [
        ...["-q", "-F", "-b", String(BLOCK_BYTES), "-m", "0", "-N", String(files)],
        ...["-O", "^has_journal,^resize_inode", "-E", "nodiscard,lazy_itable_init=1", unfinished],
      ]);
      await rename(unfinished, path);
    } catch (error) {
      await rm(unfinished, { force: true });
      throw error;
    }
  }
}

/** Takes away what is mounted at a slot, also where something still holds it; nothing to do where it is a plain directory or none. */
export async function unmountSlot(slot: string): Promise<void> {
  while (await isMountPoint(slot)) await run(HOST_PROGRAM, ["unmount", slot]);
}

async function isMountPoint(path: string): Promise<boolean> {
  try {
    const [own, parents] = await Promise.all([lstat(path), lstat(dirname(path))]);
    return own.isDirectory() && own.dev !== parents.dev;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return false;
    throw error;
  }
}

async function isThere(path: string): Promise<boolean> {
  return await lstat(path).then(
    () => true,
    () => false,
  );
}

async function run(program: string, words: readonly string[]): Promise<void> {
  try {
    await promisify(execFile)(program, words, { timeout: PROGRAM_TIMEOUT_MS, env: { LC_ALL: "C" } });
  } catch (error) {
    const said = String((error as { stderr?: string }).stderr || error).trim();
    throw new SlotDiskError(said.split("\n")[0] ?? said, error);
  }
}

async function isShared(path: string): Promise<boolean> {
  const mounts = parseMountInfo(await readFile("/proc/self/mountinfo", "utf8"));
  const { propagation = [] } = mountOf(await realpath(path), mounts) ?? {};
  // One that also gets mounts from elsewhere is a copy: what is mounted there stays there.
  const has = (kind: string) => propagation.some((field) => field.startsWith(kind));
  return has("shared:") && !has("master:");
}

/** The mount that a path is in: of several at one place the last one. */
function mountOf(path: string, mounts: readonly Mount[]): Mount | undefined {
  const below = ({ mountPoint }: Mount) =>
    mountPoint === "/" || path === mountPoint || path.startsWith(`${mountPoint}/`);
  return mounts.filter(below).reduce<Mount | undefined>((found, mount) => {
    return mount.mountPoint.length >= (found?.mountPoint.length ?? 0) ? mount : found;
  }, undefined);
}
