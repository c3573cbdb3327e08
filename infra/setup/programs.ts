import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";

/** Where Debian puts daemons, which is not in every user's PATH. */
const daemonDirectories = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/** Where Debian's packages and the machine's administrator put programs for everybody. */
export const debianPath = "/usr/local/bin:/usr/bin:/bin";

/**
 * The absolute path of a program in PATH or among the machine's daemons, or null.
 *
 * @param path Directories to look in, as in the variable PATH. @default the process's own
 */
export function findProgram(name: string, path: string = process.env.PATH ?? ""): string | null {
  for (const directory of [...path.split(delimiter), ...daemonDirectories]) {
    const candidate = join(directory || ".", name);
    try {
      accessSync(candidate, constants.X_OK);
      if (statSync(candidate).isFile()) {
        return candidate;
      }
    } catch {
      // Not here: the next directory.
    }
  }
  return null;
}
