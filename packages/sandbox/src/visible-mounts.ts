import { type Covers, sessionMounts } from "./access-mounts.ts";
import { MAILBOX_DIRECTORY } from "./helper/helper-paths.ts";
import type { SandboxMount, SandboxSpec } from "./sandbox.ts";

const SESSION_DIRECTORY = "/session";

/** A sandbox's mounts wherever its session is seen: of its access policy first, over which the others are made. */
export function visibleMounts(
  spec: Pick<SandboxSpec, "access" | "mounts" | "mailbox" | "slotDirectory">,
  covers: Covers,
): SandboxMount[] {
  const { access = [], slotDirectory, mailbox = false } = spec;
  const mounts = [...sessionMounts(access, slotDirectory, covers), ...(spec.mounts ?? [])];
  if (!mailbox) return mounts;
  const seenAgain = (target: string) => `${MAILBOX_DIRECTORY}${target.slice(SESSION_DIRECTORY.length)}`;
  return mounts.flatMap((mount) => [mount, { ...mount, target: seenAgain(mount.target) }]);
}
