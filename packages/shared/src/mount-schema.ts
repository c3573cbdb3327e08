import { z } from "zod";
import { nameSchema } from "./names.ts";

/** Where what has no target of its own is seen. */
const EXTERNAL = "/session/workspace/external";

const NAMES = "(?:/(?!\\.{1,2}(?:/|$))[A-Za-z0-9._-]+)+";
const ALLOWED = "of letters, digits, '.', '_' and '-'";

const targetSchema = z.string().regex(new RegExp(`^/session/workspace${NAMES}$`), {
  error: `a path below /session/workspace/, ${ALLOWED}`,
});

const sourceSchema = z.string().regex(/^\/[^\0]*$/, { error: "an absolute path" });

const mountModes = ["ro", "rw"] as const;

const mountSchema = z
  .strictObject({
    name: nameSchema,
    source: sourceSchema.describe(
      "A directory of the worker's host; `{tenant}` stands for the agent's tenant. It has to be in what the top level's `mounts` allow.",
    ),
    mode: z
      .enum(mountModes)
      .default("ro")
      .describe("`rw`: what the agent writes there is on the host at once."),
    target: targetSchema.optional().describe(`Where it is seen. Default: \`${EXTERNAL}/<name>\`.`),
    required: z
      .boolean()
      .default(true)
      .describe("Whether its turns wait while it is missing or denied; else they go on without it."),
  })
  .transform((mount) => ({ ...mount, target: mount.target ?? `${EXTERNAL}/${mount.name}` }));

/** A directory of the host that an agent sees. */
export type MountDefinition = z.output<typeof mountSchema>;

export const agentMountsSchema = z.array(mountSchema).max(10).default([]);

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
