import { posix } from "node:path";

/** Where the session directory is in a sandbox. */
const SESSION = "/session";
const WORKSPACE = `${SESSION}/workspace`;
const OUTBOX = `${SESSION}/outbox`;

/**
 * Where a path that an agent names is, below the session directory. Relative, with a leading slash and absolute
 * (`/session/workspace/...`) mean the same file below `workspace/`; `/session/outbox/...` is one that leaves with the reply.
 *
 * @returns undefined for one that leaves these directories, or is one of them
 */
export function agentPath(path: string): string | undefined {
  const root = path === OUTBOX || path.startsWith(`${OUTBOX}/`) ? OUTBOX : WORKSPACE;
  const isAbsolute = path === root || path.startsWith(`${root}/`);
  const absolute = posix.normalize(isAbsolute ? path : `${root}/${path}`).replace(/\/$/, "");
  const isInside = absolute.startsWith(`${root}/`) && !path.includes("\0");
  return isInside ? absolute.slice(SESSION.length + 1) : undefined;
}
