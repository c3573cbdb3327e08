import { LongshoreError } from "./errors.ts";

/** Why a path was refused. */
export type UnsafePathReason =
  /** A part of the path is a symbolic link. */
  | "link"
  /** A part of the path that has to be a directory is something else. */
  | "not-a-directory"
  /** The last part is not a regular file (FIFO, socket, device, directory). */
  | "not-a-file"
  /** The file has more than one name; another one may lie outside what may be read. */
  | "hard-link"
  /** The path itself is malformed: empty, absolute, `.` or `..`, NUL, too long. */
  | "malformed"
  /** What stands at the path kept changing while it was being used. */
  | "racing";

/**
 * A path of a session tree can't be used without the danger of leaving the tree. The usual cause is an agent
 * that made a link where the host expects a directory or a file. Never retried: the tree has to change first.
 */
export class UnsafePathError extends LongshoreError {
  readonly path: string;
  readonly reason: UnsafePathReason;

  constructor(path: string, reason: UnsafePathReason, detail: string, cause?: unknown) {
    super("UNSAFE_PATH", `${JSON.stringify(path)}: ${detail}`, { cause });
    this.path = path;
    this.reason = reason;
  }
}

/** Nothing stands at the path (`PATH_NOT_FOUND`). */
export class PathNotFoundError extends LongshoreError {
  readonly path: string;

  constructor(path: string, cause?: unknown) {
    super("PATH_NOT_FOUND", `${JSON.stringify(path)} does not exist`, { cause });
    this.path = path;
  }
}

/** Something stands at the path already (`PATH_EXISTS`). */
export class PathExistsError extends LongshoreError {
  readonly path: string;

  constructor(path: string, cause?: unknown) {
    super("PATH_EXISTS", `${JSON.stringify(path)} exists already`, { cause });
    this.path = path;
  }
}

/** A file or a directory holds more than the caller allowed (`TREE_LIMIT`). */
export class TreeLimitError extends LongshoreError {
  readonly path: string;
  readonly limit: number;
  readonly unit: "bytes" | "entries";

  constructor(path: string, limit: number, unit: "bytes" | "entries") {
    super("TREE_LIMIT", `${JSON.stringify(path)} holds more than ${limit} ${unit}`);
    this.path = path;
    this.limit = limit;
    this.unit = unit;
  }
}

/**
 * The file system refused (`TREE_IO`): disk full, quota, permission, too many open files. `errno` is the
 * system's name of the cause, such as `ENOSPC`.
 */
export class TreeIoError extends LongshoreError {
  readonly path: string;
  readonly errno: string;

  constructor(path: string, errno: string, cause: unknown) {
    super("TREE_IO", `${JSON.stringify(path)}: ${errno}`, { cause, retryable: true });
    this.path = path;
    this.errno = errno;
  }
}

/** Maps an error of `node:fs` to the class a caller can act on; other errors are given back as they are. */
export function treeErrorOf(path: string, error: unknown): unknown {
  const errno = errnoOf(error);
  switch (errno) {
    case undefined:
      return error;
    case "ENOENT":
      return new PathNotFoundError(path, error);
    case "EEXIST":
    case "ENOTEMPTY":
      return new PathExistsError(path, error);
    case "ELOOP":
      return new UnsafePathError(path, "link", "a part of it is a symbolic link", error);
    case "ENOTDIR":
      return new UnsafePathError(path, "not-a-directory", "a part of it is not a directory", error);
    case "EISDIR":
    case "ENXIO":
      return new UnsafePathError(path, "not-a-file", "it is not a regular file", error);
    case "ENAMETOOLONG":
      return new UnsafePathError(path, "malformed", "it is too long", error);
    default:
      return new TreeIoError(path, errno, error);
  }
}

/** The system's name of an error's cause (`ENOENT`), if it has one. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("syscall" in error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
