import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "@longshore/shared";
import type { Covers } from "./access-mounts.ts";
import { PASSABLE_MODE } from "./run-directory.ts";

/** Puts what is shown instead of what is hidden into the run directory, once for all sandboxes. */
export async function installCovers(runDirectory: string): Promise<Covers> {
  const base = join(runDirectory, "covers");
  const covers = { directory: join(base, "directory"), file: join(base, "file") };
  await mkdir(covers.directory, { recursive: true });
  await chmod(base, PASSABLE_MODE);
  await writeFile(covers.file, "", { flag: "wx" }).catch((error: unknown) => {
    if (errnoOf(error) !== "EEXIST") throw error;
  });
  for (const path of [covers.directory, covers.file]) await chmod(path, 0o000);
  return covers;
}
