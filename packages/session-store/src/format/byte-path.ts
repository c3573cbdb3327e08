/**
 * A path below a session directory, as a string with one character per byte (Latin-1).
 *
 * File names are bytes. A Buffer can be neither compared nor used as a key of a Map; a string of bytes can, costs one
 * byte a character, and sorts in the order of the bytes. It must never be shown or sent as text without `textOfPath`.
 */
export type BytePath = string;

/** The bytes of a path or a name. */
export function bytesOfPath(path: BytePath): Buffer {
  return Buffer.from(path, "latin1");
}

/** A path as text; bytes that are not UTF-8 become U+FFFD. */
export function textOfPath(path: BytePath): string {
  return bytesOfPath(path).toString("utf8");
}

/** The path of a text or of bytes. */
export function pathOf(path: string | Buffer): BytePath {
  return (typeof path === "string" ? Buffer.from(path, "utf8") : path).toString("latin1");
}

/** All but the last part; empty for a path of one part. */
export function parentOfPath(path: BytePath): BytePath {
  const slash = path.lastIndexOf("/");
  return slash === -1 ? "" : path.slice(0, slash);
}

/** The last part. */
export function nameOfPath(path: BytePath): BytePath {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** How many parts a path has. */
export function depthOfPath(path: BytePath): number {
  let depth = 1;
  for (let at = path.indexOf("/"); at !== -1; at = path.indexOf("/", at + 1)) depth++;
  return depth;
}
