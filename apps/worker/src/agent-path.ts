import { posix } from "node:path";

/** Where the session directory is in a sandbox. */
const SESSION = "/session";
const WORKSPACE = `${SESSION}/workspace`;

/**
 * Where a path that an agent names is, below the session directory. Relative, with a leading slash and absolute
 * (`/session/workspace/...`) mean the same file below `workspace/`.
 *
 * @returns undefined for one that leaves `workspace/`, or is `workspace/` itself
 */
export function agentPath(path: string): string | undefined {
  const isAbsolute = path === WORKSPACE || path.startsWith(`${WORKSPACE}/`);
  const absolute = posix.normalize(isAbsolute ? path : `${WORKSPACE}/${path}`).replace(/\/$/, "");
  const isInside = absolute.startsWith(`${WORKSPACE}/`) && !path.includes("\0");
  return isInside ? absolute.slice(SESSION.length + 1) : undefined;
}
