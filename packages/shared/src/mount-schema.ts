import { z } from "zod";
import { nameSchema } from "./names.ts";

/** Where what has no target of its own is seen. */
export const EXTERNAL = "/session/workspace/external";

const NAMES = "(?:/(?!\\.{1,2}(?:/|$))[A-Za-z0-9._-]+)+";
const ALLOWED = "of letters, digits, '.', '_' and '-'";

const targetSchema = z.string().regex(new RegExp(`^/session/workspace${NAMES}$`), {
  error: `a path below /session/workspace/, ${ALLOWED}`,
});

const sourceSchema = z.string().regex(/^\/[^\0]*$/, { error: "an absolute path" });

const mountModes = ["ro", "rw"] as const;
const mountModeSchema = z
  .enum(mountModes)
  .default("ro")
  .describe("`rw`: what the agent writes there is on the host at once.");

/** What stands for whoever a turn is for: `<channel>/<id>`, see `userPath`. */
export const USER_PLACEHOLDER = "{user}";

/** Mounts of one definition, and of one message. */
const MOUNTS_MAX = 10;

const mountSchema = z
  .strictObject({
    name: nameSchema,
    source: sourceSchema.describe(
      "A directory of the worker's host; `{tenant}` stands for the agent's tenant, `{user}` for `<channel>/<id>` of whose message it serves. It has to be in what the top level's `mounts` allow.",
    ),
    mode: mountModeSchema,
    target: targetSchema.optional().describe(`Where it is seen. Default: \`${EXTERNAL}/<name>\`.`),
    required: z
      .boolean()
      .default(true)
      .describe("Whether its turns wait while it is missing or denied; else they go on without it."),
  })
  .transform((mount) => ({ ...mount, target: mount.target ?? `${EXTERNAL}/${mount.name}` }));

/** A directory of the host that an agent sees. */
export type MountDefinition = z.output<typeof mountSchema>;

export const agentMountsSchema = z.array(mountSchema).max(MOUNTS_MAX).default([]);

/** Directories of the host that a message wants its turn to see, always below `EXTERNAL`. */
export const messageMountsSchema = z
  .array(z.strictObject({ name: nameSchema, source: sourceSchema, mode: mountModeSchema }))
  .max(MOUNTS_MAX)
  .refine((mounts) => new Set(mounts.map(({ name }) => name)).size === mounts.length, {
    error: "names of their own",
  });
export type MessageMount = z.output<typeof messageMountsSchema>[number];

/** A message's mount as if its agent's definition had it. */
export function mountOfMessage(mount: MessageMount): MountDefinition {
  return { ...mount, target: `${EXTERNAL}/${mount.name}`, required: true };
}

const VOLUME_NAME = /^(?:[A-Za-z0-9._-]+|\{user\})(?:\/(?:[A-Za-z0-9._-]+|\{user\}))*$/;

/** Directories of the object store that outlive sessions, and that several of them share. */
const volumeSchema = z.strictObject({
  name: z
    .string()
    .max(100)
    .regex(VOLUME_NAME, { error: `parts ${ALLOWED}, or {user}, with / between them` })
    .describe(
      "Unique within the tenant, such as `memory` or `persistent/{user}`; `{user}` stands for `<channel>/<id>` of whose message it serves.",
    ),
  target: targetSchema.describe("Where it is seen, such as `/session/workspace/memory`."),
  mode: z
    .enum(mountModes)
    .default("rw")
    .describe("`rw`: for one session at a time. `ro`: as it was committed last when the sandbox started."),
  whenTaken: z
    .enum(["wait", "ro"])
    .default("wait")
    .describe(
      "Where another session writes it: the turn waits until that one rests, or sees it as it was committed last.",
    ),
});
export type VolumeDefinition = z.output<typeof volumeSchema>;

export const agentVolumesSchema = z.array(volumeSchema).max(MOUNTS_MAX).default([]);

/** Files of the object store that an agent is shown: mounted, too. */
const skillSchema = z.strictObject({
  id: nameSchema,
  version: nameSchema.describe("A version never changes: another content is another version."),
  target: z
    .string()
    .regex(new RegExp(`^/session/(?:home|workspace)${NAMES}$`), {
      error: `a path below /session/home/ or /session/workspace/, ${ALLOWED}`,
    })
    .describe("Where the agent looks for it, such as `/session/home/.claude/skills/pdf`."),
});

export const agentSkillsSchema = z.array(skillSchema).max(50).default([]);

/** The first of these targets that is another one, or in it. */
export function overlappingTarget(targets: readonly string[]): string | undefined {
  return targets.find((target, index) => targets.slice(0, index).some((earlier) => overlap(earlier, target)));
}

function overlap(a: string, b: string): boolean {
  return `${a}/`.startsWith(`${b}/`) || `${b}/`.startsWith(`${a}/`);
}

/** What the operator of the hosts lets agents see at all. */
export const allowedMountsSchema = z
  .array(
    z.strictObject({
      source: sourceSchema.describe("A directory: it, and all below it."),
      modes: z.array(z.enum(mountModes)).min(1).default(["ro"]),
      tenants: z.array(nameSchema).optional().describe("Default: all."),
    }),
  )
  .default([]);
export type AllowedMount = z.output<typeof allowedMountsSchema>[number];
