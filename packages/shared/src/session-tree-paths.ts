import { UnsafePathError } from "./session-tree-errors.ts";

/** Longest name of one part of a path, in bytes (Linux' `NAME_MAX`). */
export const NAME_BYTES_MAX = 255;

/** Longest path below a session tree, in bytes. */
export const PATH_BYTES_MAX = 4096;

/** A path below a session tree, parts joined by `/`. A string is taken as UTF-8; a name that is not UTF-8 needs a Buffer. */
export type TreePath = string | Buffer;

const SLASH = 0x2f;
const DOT = 0x2e;

/**
 * Takes a path apart into its names.
 *
 * @throws UnsafePathError `malformed` when it is empty, absolute, ends in or doubles a slash, has a part `.`
 *   or `..`, a NUL, a part above 255 bytes, or is above 4,096 bytes
 */
export function splitTreePath(path: TreePath): Buffer[] {
  const bytes = typeof path === "string" ? encode(path) : path;
  const shown = showPath(path);
  if (bytes.length === 0) throw malformed(shown, "the path is empty");
  if (bytes.length > PATH_BYTES_MAX)
    throw malformed(shown.slice(0, 200), `longer than ${PATH_BYTES_MAX} bytes`);
  if (bytes.includes(0)) throw malformed(shown, "it contains a NUL byte");
  if (bytes[0] === SLASH) throw malformed(shown, "it is absolute");
  const names: Buffer[] = [];
  let start = 0;
  while (start <= bytes.length) {
    const slash = bytes.indexOf(SLASH, start);
    const end = slash === -1 ? bytes.length : slash;
    const name = bytes.subarray(start, end);
    if (name.length === 0) throw malformed(shown, "it has an empty part");
    if (name.length > NAME_BYTES_MAX) throw malformed(shown, `a part is longer than ${NAME_BYTES_MAX} bytes`);
    if (name[0] === DOT && (name.length === 1 || (name.length === 2 && name[1] === DOT))) {
      throw malformed(shown, `it has a part ${JSON.stringify(name.toString())}`);
    }
    names.push(name);
    start = end + 1;
  }
  return names;
}

/**
 * The path of a file as the files API names it, from the session directory: `workspace/a`, `/workspace/a` and
 * `/session/workspace/a` mean the same. Doubled slashes and parts `.` are dropped.
 *
 * @throws UnsafePathError `malformed` when it is empty, has a part `..`, a NUL, is too long or is not well-formed text
 */
export function sessionPathOfApi(input: string): string {
  return normalise(input.startsWith("/session/") ? input.slice("/session/".length) : input, input);
}

/**
 * The path of a file as an agent names it to a tool: `a`, `/a` and `/session/workspace/a` mean the same file
 * below `workspace/`; another absolute path below `/session/` means what it says.
 *
 * @returns the path from the session directory
 * @throws UnsafePathError as `sessionPathOfApi`
 */
export function sessionPathOfTool(input: string): string {
  if (input.startsWith("/session/")) return normalise(input.slice("/session/".length), input);
  return `workspace/${normalise(input, input)}`;
}

/** A path for messages: readable, and never mistaken for another one. Bytes that are not UTF-8 are shown as U+FFFD. */
export function showPath(path: TreePath): string {
  return typeof path === "string" ? path : path.toString("utf8");
}

function normalise(path: string, input: string): string {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw malformed(input.slice(0, 200), `it has a part ".."`);
  const joined = parts.join("/");
  splitTreePath(joined);
  return joined;
}

function encode(path: string): Buffer {
  // An unpaired surrogate would silently become U+FFFD, the name of a different file.
  if (!path.isWellFormed()) throw malformed(path.slice(0, 200), "it is not well-formed text");
  return Buffer.from(path, "utf8");
}

function malformed(path: string, detail: string): UnsafePathError {
  return new UnsafePathError(path, "malformed", detail);
}
