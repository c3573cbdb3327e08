// biome-ignore lint/style/noRestrictedImports: directories of the host, which the operator allows to be seen
import { readdir, realpath } from "node:fs/promises";
import { resolve, sep } from "node:path";
import { accessMountPoints, type SandboxMount, type SandboxUser } from "@longshore/sandbox";
import {
  type AgentDefinition,
  type AllowedMount,
  accessRules,
  errnoOf,
  type Logger,
  type MountDefinition,
  overlappingTarget,
  SessionTree,
  USER_PLACEHOLDER,
} from "@longshore/shared";
import { MessageMountDeniedError, MountDeniedError } from "./errors.ts";
import { foreignTargets, type Grants } from "./grants.ts";
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
export function mountPatterns(targets: readonly string[]): string[] {
  return targets.map((target) => target.slice(SESSION.length)).flatMap((path) => [path, `${path}/**`]);
}

/** Paths of the directories that mount points are in, from the session directory. */
export function mountParents(targets: readonly string[]): string[] {
  return targets.flatMap((target) => {
    const names = target.slice(SESSION.length).split("/").slice(0, -1);
    return names.map((_, index) => names.slice(0, index + 1).join("/"));
  });
}

/**
 * Finds what mounts, an agent's and a message's, come to on this host, now: a definition is no permission, and what was a directory an hour
 * ago may be a link today. A link is followed before it is judged.
 *
 * @param ownPaths of the worker, which no agent may see
 * @throws MountDeniedError for one that is required; the others are left out, and logged
 */
export async function resolveMounts(
  definition: AgentDefinition,
  grants: Grants,
  allowed: readonly AllowedMount[],
  ownPaths: readonly string[],
  log: Logger,
): Promise<SandboxMount[]> {
  const { mounts, tenant, mountsByMessage } = definition;
  const taken = overlappingTarget(foreignTargets(definition, grants));
  const resolved: SandboxMount[] = [];
  for (const mount of [...mounts, ...grants.mounts]) {
    try {
      const ofMessage = grants.mounts.includes(mount);
      if (ofMessage && !mountsByMessage)
        throw new MountDeniedError("MOUNT_NOT_BY_MESSAGE", mount.name, "its agent takes none from messages");
      if (ofMessage && taken !== undefined)
        throw new MountDeniedError("MOUNT_TARGET_TAKEN", mount.name, `its agent has another one at ${taken}`);
      const source = await sourceOf(mount, tenant, ofMessage ? undefined : grants.user, ownPaths);
      await checkAllowed(mount, source, tenant, allowed);
      resolved.push({ source, target: mount.target, readOnly: mount.mode === "ro" });
    } catch (error) {
      if (!(error instanceof MountDeniedError)) throw error;
      // No retry makes it another message.
      if (grants.mounts.includes(mount)) throw new MessageMountDeniedError(error);
      if (mount.required) throw error;
      log.warn({ err: error, mount: mount.name }, "a mount is left out");
    }
  }
  return resolved;
}

/** Directories of the session that an agent's access policy is enforced by mounts over. */
export function accessPoints({ access }: AgentDefinition): string[] {
  return accessMountPoints(accessRules(access));
}

/**
 * Makes the directories that mounts are made over, whatever the agent left there: a link on the way would lead the mount
 * elsewhere. To be called while nothing runs in the slot.
 */
export async function makeMountPoints(
  slotDirectory: string,
  targets: readonly string[],
  owner: SandboxUser,
): Promise<void> {
  if (targets.length === 0) return;
  const tree = SessionTree.open(slotDirectory);
  try {
    for (const target of targets) {
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
  user: string | undefined,
  ownPaths: readonly string[],
): Promise<string> {
  const forTenant = template.replaceAll("{tenant}", tenant);
  const given = user === undefined ? forTenant : forTenant.replaceAll(USER_PLACEHOLDER, user);
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
