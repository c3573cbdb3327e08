import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** Makes what is mounted below a directory seen by an engine: as it is everywhere on most hosts. `unmountBelow` undoes it. */
export async function shareMounts(directory: string): Promise<void> {
  await promisify(execFile)("mount", ["--bind", directory, directory]);
  await promisify(execFile)("mount", ["--make-shared", directory]);
}
