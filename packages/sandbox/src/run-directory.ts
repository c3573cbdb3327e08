import { join } from "node:path";
import { SandboxSpecError } from "./errors.ts";
import { isSafeName } from "./validate-spec.ts";

/** The fleet's and its root's mode: sandbox users may pass and list nothing. */
export const PASSABLE_MODE = 0o711;

/**
 * Paths below a fleet's run directory on a host:
 *
 *     workers/<worker id>/presence.sock   tells whether the worker lives
 *     workers/<worker id>/sandboxes/      labels of its bubblewrap sandboxes
 *     workers/<worker id>/slots/<nonce>/  the session directory of an activation
 *     workers/<worker id>/images/<nonce>  the file system of a slot that has one of its own
 *     workers/<worker id>/sockets/<nonce>/  what a sandbox reaches its worker by
 *     templates/<bytes>-<files>           empty file systems that images of slots are copied from
 *     users/<uid>                         whose place a user id is
 *     init/                               the helper that runs in sandboxes, by the hash of its content
 *     bwrap/                              the seccomp filter
 */
export function workersDirectory(runDirectory: string): string {
  return join(runDirectory, "workers");
}

/** @throws SandboxSpecError when the id can't be part of a path */
export function workerDirectory(runDirectory: string, workerId: string): string {
  if (!isSafeName(workerId, 128)) {
    throw new SandboxSpecError(
      "workerId",
      `letters, digits, _ . and -, at most 128, not ${JSON.stringify(workerId)}`,
    );
  }
  return join(workersDirectory(runDirectory), workerId);
}

export function slotsDirectory(runDirectory: string, workerId: string): string {
  return join(workerDirectory(runDirectory, workerId), "slots");
}

export function imagesDirectory(runDirectory: string, workerId: string): string {
  return join(workerDirectory(runDirectory, workerId), "images");
}

export function templatesDirectory(runDirectory: string): string {
  return join(runDirectory, "templates");
}

export function socketsDirectory(runDirectory: string, workerId: string): string {
  return join(workerDirectory(runDirectory, workerId), "sockets");
}

export function usersDirectory(runDirectory: string): string {
  return join(runDirectory, "users");
}
