import type {
  EgressProxy,
  Sandbox,
  SandboxLabels,
  SandboxMount,
  SandboxRuntime,
  SandboxUser,
  SlotUse,
} from "@longshore/sandbox";
import { type AgentDefinition, accessRules } from "@longshore/shared";
import type { ToolServer } from "./tools/tool-server.ts";

export interface SandboxPlace {
  readonly labels: SandboxLabels;
  readonly slotDirectory: string;
  readonly user: SandboxUser;
  /** Serves the fleet's tools inside. @default none */
  readonly tools?: ToolServer | undefined;
  /** As `resolveMounts` has them. @default none */
  readonly mounts?: readonly SandboxMount[];
  /** Its way out. @default none */
  readonly egress?: EgressProxy | undefined;
}

/** What the directories are for that an agent's sandbox writes, and how much it may. */
export function slotUse({ limits }: AgentDefinition, { name }: SandboxRuntime): SlotUse {
  return { runtime: name, quota: { bytes: limits.disk, files: limits.files } };
}

/** Starts an agent's sandbox as its definition says. @throws as `SandboxRuntime.start` */
export async function startSandbox(
  runtime: SandboxRuntime,
  definition: AgentDefinition,
  { egress, tools, ...place }: SandboxPlace,
  signal: AbortSignal,
): Promise<Sandbox> {
  return await runtime.start(
    {
      ...place,
      ...(definition.image === undefined ? {} : { image: definition.image }),
      ...(definition.rootfs === undefined ? {} : { rootfs: definition.rootfs }),
      ...(definition.command === undefined ? {} : { command: definition.command }),
      ...(definition.ociRuntime === undefined ? {} : { ociRuntime: definition.ociRuntime }),
      ...(egress === undefined ? {} : { egress: egress.serve }),
      ...(tools === undefined ? {} : { tools: tools.serve }),
      ...(definition.contract === "mailbox-db" ? { mailbox: true } : {}),
      env: {
        TZ: definition.timeZone,
        ...egress?.environment(),
        ...Object.fromEntries(
          Object.entries(definition.env).map(([name, value]) => [
            name,
            typeof value === "string" ? value : value.value,
          ]),
        ),
      },
      access: accessRules(definition.access),
      workingDirectory: "/session/workspace",
      limits: {
        memoryBytes: definition.limits.memory,
        cpus: definition.limits.cpus,
        pids: definition.limits.pids,
      },
    },
    signal,
  );
}
