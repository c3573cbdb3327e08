import {
  type AcceptedMessage,
  type AgentDefinition,
  type MountDefinition,
  mountOfMessage,
  USER_PLACEHOLDER,
  userPath,
} from "@longshore/shared";

/** What a turn's sandbox shows for the sake of its message, and none of another user may use. */
export interface Grants {
  /** Whom it is for, as `userPath` names them; undefined where the definition does not ask. */
  readonly user: string | undefined;
  /** What the message wants to be mounted. */
  readonly mounts: readonly MountDefinition[];
}

export const NO_GRANTS: Grants = { user: undefined, mounts: [] };

export function grantsOf(
  { mounts, volumes }: Pick<AgentDefinition, "mounts" | "volumes">,
  message: AcceptedMessage,
): Grants {
  const sources = [...mounts.map(({ source }) => source), ...volumes.map(({ name }) => name)];
  const asks = sources.some((source) => source.includes(USER_PLACEHOLDER));
  return { user: asks ? userPath(message) : undefined, mounts: (message.mounts ?? []).map(mountOfMessage) };
}

export function haveSameGrants(a: Grants, b: Grants): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Where a session's sandbox shows what is not the session's. */
export function foreignTargets(
  { mounts, volumes, skills }: Pick<AgentDefinition, "mounts" | "volumes" | "skills">,
  grants: Grants,
): string[] {
  return [...mounts, ...grants.mounts, ...volumes, ...skills].map(({ target }) => target);
}
