import { readFile } from "node:fs/promises";
import { asRoot } from "./privilege.ts";
import { capture } from "./run-command.ts";

/**
 * The mount points below a directory (itself included), innermost first: the order in which they can be
 * unmounted.
 *
 * @param mountInfo The text of `/proc/self/mountinfo`.
 */
export function mountPointsBelow(directory: string, mountInfo: string): string[] {
  return mountInfo
    .split("\n")
    .map((line) => line.split(" ")[4])
    .filter((field) => field !== undefined)
    .map(decodeOctal)
    .filter((point) => point === directory || point.startsWith(`${directory}/`))
    .reverse();
}

/** Unmounts everything below a directory; what is busy is detached, so that it goes with its last user. */
export async function unmountBelow(directory: string): Promise<void> {
  const points = mountPointsBelow(directory, await readFile("/proc/self/mountinfo", "utf8"));
  for (const point of points) {
    const plain = await capture(asRoot(["umount", "--", point]));
    if (plain.status !== 0) {
      await capture(asRoot(["umount", "--lazy", "--", point]));
    }
  }
}

/** The kernel writes a space, tab, newline and backslash of a path as `\ooo`. */
function decodeOctal(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_match, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
