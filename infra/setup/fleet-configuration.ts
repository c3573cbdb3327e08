import { createHash, randomBytes } from "node:crypto";
import { stringify } from "yaml";

/** How the reference agent is run. */
export type LocalSandbox =
  | {
      readonly runtime: "docker";
      readonly engine: string;
      readonly image: string;
      /** Of another agent than the reference agent. */
      readonly agent?: LocalAgent;
    }
  | {
      readonly runtime: "bwrap";
      readonly rootfs: string;
      /** Another agent than the reference agent, of the same root file system. */
      readonly command?: readonly string[];
      /** Of that agent. @default "acp" */
      readonly contract?: "acp" | "exec" | "mailbox-db";
    };

/** An agent of somebody's own. */
export interface LocalAgent {
  readonly name: string;
  /** As below `agents:` of `longshore.yaml`; tenant, runtime and image are the fleet's. */
  readonly definition: Readonly<Record<string, unknown>>;
}

/** Where the agent is in its image and root file system. */
const agentCommand = ["/usr/local/bin/node", "/opt/agent/main.js"];

/** A key as a client sends it: 192 random bits. */
export function makeKey(): string {
  return `longshore-${randomBytes(24).toString("base64url")}`;
}

export interface FleetConfigurationOptions {
  /** Of the one tenant, `default`, for everything. */
  readonly key: string;
  readonly sandbox: LocalSandbox;
  /** How long a worker may be silent before its sessions go to others, in seconds. @default 15 */
  readonly leaseSeconds?: number;
  /** Activations at once, of each worker. @default 4 */
  readonly places?: number;
  /** Sandboxes that each worker holds ready. @default 0 */
  readonly warm?: number;
}

/** `longshore.yaml` of a fleet on one machine: one tenant, over HTTP, the reference agent as `helper` or another one. */
export function fleetConfiguration(options: FleetConfigurationOptions): string {
  const { key, sandbox, leaseSeconds = 15, places = 4, warm = 0 } = options;
  const hash = `sha256:${createHash("sha256").update(key).digest("hex")}`;
  const sandboxed =
    sandbox.runtime === "docker"
      ? { ...sandbox.agent?.definition, runtime: "docker", image: sandbox.image }
      : {
          runtime: "bwrap",
          rootfs: sandbox.rootfs,
          command: sandbox.command ?? agentCommand,
          contract: sandbox.contract ?? "acp",
        };
  const agent = sandbox.runtime === "docker" ? (sandbox.agent?.name ?? "helper") : "helper";
  return stringify({
    tenants: {
      default: {
        keys: [{ id: "local", hash, scopes: ["send", "read", "operate"] }],
        // Nobody else is there who could be kept waiting.
        limits: { messagesPerMinute: 1_000_000, runningTurns: 1_000 },
      },
    },
    agents: { [agent]: { warm, retry: { backoff: "200ms" }, ...sandboxed, tenant: "default" } },
    routes: [{ channel: "http", agent, session: "per-thread" }],
    channels: { http: {} },
    worker: { places, lease: `${leaseSeconds}s`, drain: "10s" },
  });
}
