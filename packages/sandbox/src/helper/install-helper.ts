import { createHash, randomBytes } from "node:crypto";
import { chmod, mkdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { errnoOf } from "@longshore/shared";
import { RuntimeUnavailableError } from "../errors.ts";
import { PASSABLE_MODE } from "../run-directory.ts";

/** Paths on the host of what is put into sandboxes. */
export interface HelperPrograms {
  readonly init: string;
  /** For those of the contract `mailbox-db`. */
  readonly mailbox: string;
}

/** Where the build leaves them. */
const BUILT = new URL("../../dist/", import.meta.url);
const HASH_DIGITS = 12;

/**
 * Puts the helpers into the run directory, which has the same path for this worker and for an engine on the
 * host, named by their content: workers of two versions each have their own.
 *
 * @param runtime For the error.
 * @throws RuntimeUnavailableError when they were not built
 */
export async function installHelpers(runDirectory: string, runtime: string): Promise<HelperPrograms> {
  const [init, mailbox] = await Promise.all([
    installHelper(runDirectory, runtime, "longshore-init"),
    installHelper(runDirectory, runtime, "longshore-mailbox"),
  ]);
  return { init, mailbox };
}

async function installHelper(runDirectory: string, runtime: string, name: string): Promise<string> {
  const built = fileURLToPath(new URL(name, BUILT));
  let program: Buffer;
  try {
    program = await readFile(built);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
    const advice = `${built} is missing: build it by "npm run build --workspace packages/sandbox" (needs Debian's musl-tools and libsqlite3-dev)`;
    throw new RuntimeUnavailableError(runtime, [advice], error);
  }
  const directory = join(runDirectory, "init");
  const hash = createHash("sha256").update(program).digest("hex").slice(0, HASH_DIGITS);
  const path = join(directory, hash);
  if (await isThere(path)) return path;
  await mkdir(directory, { recursive: true, mode: PASSABLE_MODE });
  // Whatever the process's umask: sandbox users have to reach and run it.
  await chmod(directory, PASSABLE_MODE);
  const unfinished = `${path}.${randomBytes(6).toString("hex")}`;
  await writeFile(unfinished, program);
  await chmod(unfinished, 0o555);
  await rename(unfinished, path);
  return path;
}

async function isThere(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return false;
    throw error;
  }
}
