import type { AccessRule } from "@longshore/shared";
import type { SandboxMount } from "./sandbox.ts";

const SESSION = "/session";
const TMP = "/tmp";

/** Paths on the host of what is shown instead of what is hidden: nobody can read them. */
export interface Covers {
  readonly directory: string;
  readonly file: string;
}

/** Whether the session directory is writable where no other rule says otherwise. */
export function isSessionWritable(rules: readonly AccessRule[]): boolean {
  return ruleFor(SESSION, rules).write;
}

/** Whether what is in `/tmp` may be executed, as far as the runtime can tell. */
export function isTmpExecutable(rules: readonly AccessRule[]): boolean {
  return ruleFor(TMP, rules).execute;
}

/** Mounts over directories of the session, broad before narrow, that enforce a policy there. */
export function sessionMounts(
  rules: readonly AccessRule[],
  slotDirectory: string,
  covers: Covers,
): SandboxMount[] {
  return sessionDirectories(rules).map(({ path, read, write }) => ({
    source: read ? `${slotDirectory}${path.slice(SESSION.length)}` : covers.directory,
    target: path,
    readOnly: !write,
  }));
}

/** The directories of the session that have to be there for a policy. */
export function accessMountPoints(rules: readonly AccessRule[]): string[] {
  return sessionDirectories(rules).map(({ path }) => path);
}

type SessionDirectory = Pick<AccessRule, "path" | "read" | "write">;

/**
 * The directories of the session that a policy needs mounts over. Where what is above one is writable, it becomes a mount of its
 * own, too: a mount point can't be renamed, and with what is above it everything would move to where no rule is.
 */
function sessionDirectories(rules: readonly AccessRule[]): SessionDirectory[] {
  const found = new Map<string, SessionDirectory>();
  for (const rule of rules.filter(({ path }) => path.startsWith(`${SESSION}/`))) {
    const outer = ruleFor(parentOf(rule.path), rules);
    if (!outer.read || (rule.read === outer.read && rule.write === outer.write)) continue;
    for (const above of directoriesAbove(rule.path)) {
      const { read, write } = ruleFor(above, rules);
      if (write && !found.has(above)) found.set(above, { path: above, read, write });
    }
    found.set(rule.path, rule);
  }
  return [...found.values()];
}

/** What is hidden outside of the session. */
export function hiddenPaths(rules: readonly AccessRule[]): AccessRule[] {
  return rules.filter(({ path, read }) => !read && !path.startsWith(`${SESSION}/`));
}

/** The most specific rule in force for a path. */
function ruleFor(path: string, rules: readonly AccessRule[]): Pick<AccessRule, "read" | "write" | "execute"> {
  const isWritable = [SESSION, TMP].some((directory) => `${path}/`.startsWith(`${directory}/`));
  const within = rules.filter(
    (rule) => `${path}/`.startsWith(`${rule.path}/`) && (!isWritable || rule.path !== ""),
  );
  return within.at(-1) ?? { read: true, write: isWritable, execute: true };
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}

/** Those between the session directory and a path in it, the outermost first. */
function directoriesAbove(path: string): string[] {
  const names = path.slice(SESSION.length + 1).split("/");
  return names.slice(1).map((_, index) => `${SESSION}/${names.slice(0, index + 1).join("/")}`);
}
