import { z } from "zod";

const SESSION = "/session";
const WORKSPACE = "/session/workspace";
const HOME = "/session/home";
const TMP = "/tmp";
/** What a sandbox has of its own, or rests on. */
const OWN = ["/.longshore", "/dev", "/proc", "/run", "/sys"];
const RULES_MAX = 50;

/** What an agent may do with a path and, where it is a directory, with all below it. */
export interface AccessRule {
  /** Absolute, inside the sandbox, without a slash at its end. */
  readonly path: string;
  readonly isDirectory: boolean;
  readonly read: boolean;
  readonly write: boolean;
  readonly execute: boolean;
}

export const accessSchema = z
  .record(
    z.string(),
    z.string().regex(/^[r-][w-][x-]$/, { error: 'three letters such as "rwx", "r-x" or "---"' }),
  )
  .refine((access) => Object.keys(access).length <= RULES_MAX, { error: `at most ${RULES_MAX}` })
  .default({});
export type AccessPolicy = z.output<typeof accessSchema>;

/** Of two patterns for the same path the second policy's is in force. */
export function layeredAccess(all: AccessPolicy, one: AccessPolicy): AccessPolicy {
  const own = new Set(Object.keys(one).map(pathOf));
  return {
    ...Object.fromEntries(Object.entries(all).filter(([pattern]) => !own.has(pathOf(pattern)))),
    ...one,
  };
}

/** The rules of a policy without problems, every directory before what is in it. */
export function accessRules(access: AccessPolicy): AccessRule[] {
  const rules = Object.entries(access).flatMap(([pattern, permissions]) => {
    const parsed = parsePattern(pattern);
    return typeof parsed === "string" ? [] : [{ ...parsed, ...permissionsOf(permissions) }];
  });
  return rules.sort((a, b) => (`${a.path}/` < `${b.path}/` ? -1 : 1));
}

/** What about a pattern can't be enforced, or is none. */
export interface AccessProblem {
  readonly pattern: string;
  /** What is allowed instead, and why. */
  readonly reason: string;
}

/**
 * What is wrong with an agent's policy: a pattern that is none, and whatever mounts can't enforce, which is refused and not
 * ignored.
 *
 * @param targets where mounts, volumes and skills are seen
 * @param isWarm whether sandboxes start before there is a session
 */
export function accessProblems(
  access: AccessPolicy,
  targets: readonly string[],
  isWarm: boolean,
): AccessProblem[] {
  const rules = accessRules(access);
  const seen = new Set<string>();
  return Object.entries(access).flatMap(([pattern, permissions]) => {
    const parsed = parsePattern(pattern);
    const reason =
      typeof parsed === "string"
        ? parsed
        : seen.has(parsed.path)
          ? `patterns of their own: another one is for ${parsed.path || "/"}, too`
          : whyNot({ ...parsed, ...permissionsOf(permissions) }, rules, targets, isWarm);
    if (typeof parsed !== "string") seen.add(parsed.path);
    return reason === undefined ? [] : [{ pattern, reason }];
  });
}

/** Where an agent's policy has no `x` and its programs may execute files all the same: only docker's /tmp can forbid it. */
export function executableAnyway({
  access,
  runtime,
}: {
  readonly access: AccessPolicy;
  readonly runtime: "docker" | "bwrap" | "auto";
}): string[] {
  return accessRules(access)
    .filter(({ path, read, execute }) => read && !execute && !(path === TMP && runtime === "docker"))
    .map(({ path }) => path || "/");
}

function whyNot(
  { path, read, write, execute }: AccessRule,
  rules: readonly AccessRule[],
  targets: readonly string[],
  isWarm: boolean,
): string | undefined {
  if (!read && (write || execute))
    return "r with w or x: mounts can't let anything be written or executed unread";
  if (path === "") {
    if (!read) return "r-x or r--: without its root nothing could run";
    return write ? "r-x or r--: the root is never writable" : undefined;
  }
  const own = OWN.find((directory) => isWithin(path, directory));
  if (own !== undefined) return `another path: ${own} is the sandbox's own`;
  if (isWithin(path, TMP)) {
    return path === TMP && write
      ? undefined
      : `rwx or rw- for all of ${TMP}: it is empty when the sandbox starts`;
  }
  const hiding = rules.find((other) => !other.read && other.path !== path && isWithin(path, other.path));
  if (hiding !== undefined && read)
    return `---: it is in ${hiding.path}, which is hidden with all that is in it`;
  if (!isWithin(path, SESSION)) return write ? `no w: only ${SESSION} and ${TMP} can be written` : undefined;
  if (!read && isWithin(WORKSPACE, path)) return "r--, at least: the agent's working directory is there";
  const taken = targets.find((target) => isWithin(path, target) || (!read && isWithin(target, path)));
  if (taken !== undefined) return `another path: what is seen at ${taken} has a mode of its own`;
  const isPlain = read && write;
  if (isWarm && !isPlain) return "rwx or rw-, since sandboxes are started ahead of their sessions (warm)";
  return undefined;
}

function permissionsOf(text: string): Pick<AccessRule, "read" | "write" | "execute"> {
  return { read: text[0] === "r", write: text[1] === "w", execute: text[2] === "x" };
}

/** A path's normal form, the pattern itself where it is none. */
function pathOf(pattern: string): string {
  const parsed = parsePattern(pattern);
  return typeof parsed === "string" ? pattern : parsed.path;
}

/** @returns what is allowed, where it is no pattern */
function parsePattern(pattern: string): Pick<AccessRule, "path" | "isDirectory"> | string {
  const absolute = pattern === "~" || pattern.startsWith("~/") ? `${HOME}${pattern.slice(1)}` : pattern;
  if (!absolute.startsWith("/")) return "a path from / or ~";
  const path = absolute.replace(/\/(?:\*\*)?$/, "");
  const names = path === "" ? [] : path.slice(1).split("/");
  if (names.some((name) => /[*?[\]{}]/.test(name)))
    return "a wildcard nowhere but as /** at its end: mounts can't enforce another one";
  if (names.some((name) => ["", ".", ".."].includes(name) || name.includes("\0")))
    return 'a path without "//", "." and ".."';
  return { path, isDirectory: path !== absolute || isWithin(path, SESSION) };
}

/** Whether a path is another one or below it. */
function isWithin(path: string, other: string): boolean {
  return path === other || path.startsWith(`${other}/`);
}
