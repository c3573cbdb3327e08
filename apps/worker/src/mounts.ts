// biome-ignore lint/style/noRestrictedImports: directories of the host, which the operator allows to be seen
import { readdir, realpath } from "node:fs/promises";
import { resolve, sep } from "node:path";
import type { SandboxMount, SandboxUser } from "@longshore/sandbox";
import {
  type AgentDefinition,
  type AllowedMount,
  errnoOf,
  type Logger,
  type MountDefinition,
  SessionTree,
} from "@longshore/shared";
import { MountDeniedError } from "./errors.ts";
import { ensureDirectory } from "./inbox.ts";

/** What nobody is given, whatever is allowed: neither it, nor what is in it, nor what it is in. */
const FORBIDDEN = [
  ...["/boot", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/var/run"],
  ...["/var/lib/docker", "/var/lib/containerd", "/var/lib/kubelet"],
];

/** Names of directories, files and sockets that hold credentials, or give the host away. */
const CREDENTIALS: ReadonlySet<string> = new Set([
  ...[".aws", ".azure", ".docker", ".gcloud", ".gnupg", ".kube", ".password-store", ".ssh"],
  ...[".git-credentials", ".netrc", ".npmrc", ".pgpass", ".pypirc"],
  ...["containerd.sock", "crio.sock", "docker.sock", "podman.sock"],
]);

const SESSION = "/session/";

/** Patterns of the paths, from the session directory, that mounts are seen at: outside the mirror and the quota. */
export function mountPatterns({ mounts, skills }: Pick<AgentDefinition, "mounts" | "skills">): string[] {
  return [...mounts, ...skills]
    .map(({ target }) => target.slice(SESSION.length))
    .flatMap((path) => [path, `${path}/**`]);
}

/** Paths of the directories that mount points are in, from the session directory. */
export function mountParents({ mounts, skills }: Pick<AgentDefinition, "mounts" | "skills">): string[] {
  return [...mounts, ...skills].flatMap(({ target }) => {
    const names = target.slice(SESSION.length).split("/").slice(0, -1);
    return names.map((_, index) => names.slice(0, index + 1).join("/"));
  });
}

/** Whether a definition's sandboxes have anything mounted below the session directory. */
export function hasMounts({ mounts, skills }: Pick<AgentDefinition, "mounts" | "skills">): boolean {
  return mounts.length + skills.length > 0;
}

/**
 * Finds what an agent's mounts come to on this host, now: a definition is no permission, and what was a directory an hour
 * ago may be a link today. A link is followed before it is judged.
 *
 * @param ownPaths of the worker, which no agent may see
 * @throws MountDeniedError for one that is required; the others are left out, and logged
 */
export async function resolveMounts(
  { mounts, tenant }: AgentDefinition,
  allowed: readonly AllowedMount[],
  ownPaths: readonly string[],
  log: Logger,
): Promise<SandboxMount[]> {
  const resolved: SandboxMount[] = [];
  for (const mount of mounts) {
    try {
      const source = await sourceOf(mount, tenant, ownPaths);
      await checkAllowed(mount, source, tenant, allowed);
      resolved.push({ source, target: mount.target, readOnly: mount.mode === "ro" });
    } catch (error) {
      if (!(error instanceof MountDeniedError) || mount.required) throw error;
      log.warn({ err: error, mount: mount.name }, "a mount is left out");
    }
  }
  return resolved;
}

/**
 * Makes the directories that mounts are made over, whatever the agent left there: a link on the way would lead the mount
 * elsewhere. To be called while nothing runs in the slot.
 */
export async function makeMountPoints(
  slotDirectory: string,
  mounts: readonly SandboxMount[],
  owner: SandboxUser,
): Promise<void> {
  if (mounts.length === 0) return;
  const tree = SessionTree.open(slotDirectory);
  try {
    for (const { target } of mounts) {
      const names = target.slice(SESSION.length).split("/");
      for (let depth = 1; depth <= names.length; depth++)
        await ensureDirectory(tree, names.slice(0, depth).join("/"), owner);
    }
  } finally {
    tree.close();
  }
}

async function sourceOf(
  { name, source: template }: MountDefinition,
  tenant: string,
  ownPaths: readonly string[],
): Promise<string> {
  const given = template.replaceAll("{tenant}", tenant);
  let source: string;
  let names: string[];
  try {
    source = await realpath(given);
    names = await readdir(source);
  } catch (error) {
    const missing = `${given} is no directory of this host that can be read (${errnoOf(error)})`;
    throw new MountDeniedError("MOUNT_MISSING", name, missing);
  }
  const own = await Promise.all(ownPaths.map((path) => realpath(path).catch(() => resolve(path))));
  const forbidden = [...FORBIDDEN, ...own].find((path) => isWithin(source, path) || isWithin(path, source));
  if (forbidden !== undefined)
    throw new MountDeniedError("MOUNT_FORBIDDEN", name, `${source} and ${forbidden} overlap`);
  const credential = [...source.split(sep), ...names].find((part) => CREDENTIALS.has(part));
  if (credential !== undefined)
    throw new MountDeniedError("MOUNT_FORBIDDEN", name, `${source} has or is in ${credential}`);
  return source;
}

async function checkAllowed(
  { name, mode }: MountDefinition,
  source: string,
  tenant: string,
  allowed: readonly AllowedMount[],
): Promise<void> {
  const roots = await Promise.all(
    allowed
      .filter(({ tenants }) => tenants === undefined || tenants.includes(tenant))
      .map(async (entry) => ({ ...entry, path: await realpath(entry.source).catch(() => undefined) })),
  );
  const matching = roots.filter(({ path }) => path !== undefined && isWithin(source, path));
  if (matching.length === 0) {
    const reason = `the operator's mounts do not name ${source} for the tenant ${tenant}`;
    throw new MountDeniedError("MOUNT_NOT_ALLOWED", name, reason);
  }
  if (!matching.some(({ modes }) => modes.includes(mode)))
    throw new MountDeniedError("MOUNT_MODE_NOT_ALLOWED", name, `${source} is not allowed as ${mode}`);
}

/** Whether a path is another one or below it. */
function isWithin(path: string, other: string): boolean {
  return path === other || other === sep || path.startsWith(`${other}${sep}`);
}
