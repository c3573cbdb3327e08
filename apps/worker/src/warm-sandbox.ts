import { randomBytes } from "node:crypto";
import type { Sandbox, SandboxUser, SandboxUsers, Slots, WarmKind, WarmMember } from "@longshore/sandbox";
import type { AgentDefinition } from "@longshore/shared";
import { AcpAgent } from "./acp-agent.ts";
import type { ActivationParts } from "./activation.ts";
import { definitionHash } from "./definition-hash.ts";
import { type Egress, openEgress } from "./egress.ts";
import { NO_GRANTS } from "./grants.ts";
import { makeMountPoints } from "./mounts.ts";
import { slotUse, startSandbox } from "./start-sandbox.ts";
import { ToolServer } from "./tools/tool-server.ts";

/** An agent whose sandboxes are to be held warm. */
export interface WarmAgent extends WarmKind {
  readonly definition: AgentDefinition;
}

export function warmAgent(name: string, definition: AgentDefinition): WarmAgent {
  return { name, hash: definitionHash(definition), size: definition.warm, definition };
}

export interface WarmSandboxParts
  extends Pick<ActivationParts, "runtimeOf" | "mountsOf" | "clock" | "host" | "worker" | "log" | "metrics"> {
  readonly slots: Pick<Slots, "create" | "remove">;
  readonly users: Pick<SandboxUsers, "acquire" | "release">;
}

/**
 * A sandbox that was started ahead of its session: its agent has answered `initialize` and, where it can close it again, has
 * opened a session of its own. Its slot holds the four directories and nothing of anybody. Whoever takes it writes the session's files into the slot: a mount
 * that is made below it now would not be seen inside.
 */
export class WarmSandbox implements WarmMember {
  readonly nonce = randomBytes(16).toString("hex");
  readonly #kind: WarmAgent;
  readonly #parts: WarmSandboxParts;
  #user: SandboxUser | undefined;
  #sandbox: Sandbox | undefined;
  #agent: AcpAgent | undefined;
  readonly #tools: ToolServer;
  readonly #egress: Egress | undefined;
  #slotDirectory: string | undefined;

  constructor(kind: WarmAgent, parts: WarmSandboxParts) {
    this.#kind = kind;
    this.#parts = parts;
    this.#tools = new ToolServer(parts.log);
    this.#egress = openEgress(kind.definition, parts);
  }

  async prepare(signal: AbortSignal): Promise<void> {
    const { slots, users, runtimeOf, mountsOf, clock, host, worker, log } = this.#parts;
    const { definition, hash } = this.#kind;
    const user = await users.acquire();
    this.#user = user;
    const runtime = runtimeOf(definition);
    const slotDirectory = await slots.create(this.nonce, user, slotUse(definition, runtime));
    this.#slotDirectory = slotDirectory;
    const whose = { host, worker, tenant: definition.tenant, sessionId: "", epoch: 0 };
    const labels = { ...whose, nonce: this.nonce, definition: hash };
    const mounts = await mountsOf(definition, NO_GRANTS, log);
    await makeMountPoints(
      slotDirectory,
      mounts.map(({ target }) => target),
      user,
    );
    const place = { labels, slotDirectory, user, mounts, tools: this.#tools, egress: this.#egress?.proxy };
    this.#sandbox = await startSandbox(runtime, definition, place, signal);
    this.#agent = new AcpAgent(this.#sandbox, definition, clock);
    await this.#agent.initialize(signal);
    // One that finds files in its home when it opens a session has to find those of `home`, too.
    if (definition.home === undefined) await this.#agent.openAhead(signal);
  }

  get hasEnded(): boolean {
    return this.#agent?.hasEnded ?? false;
  }

  onEnd(listener: () => void): void {
    void this.#agent?.ended.then(listener);
  }

  /** What an activation takes over; undefined before it is prepared. */
  get parts():
    | {
        readonly user: SandboxUser;
        readonly slotDirectory: string;
        readonly sandbox: Sandbox;
        readonly agent: AcpAgent;
        /** Not bound to a session yet. */
        readonly tools: ToolServer;
        /** Not bound to a session yet. */
        readonly egress: Egress | undefined;
      }
    | undefined {
    const [user, slotDirectory, sandbox, agent] = [
      this.#user,
      this.#slotDirectory,
      this.#sandbox,
      this.#agent,
    ];
    if (user === undefined || slotDirectory === undefined || sandbox === undefined || agent === undefined)
      return undefined;
    return { user, slotDirectory, sandbox, agent, tools: this.#tools, egress: this.#egress };
  }

  async destroy(): Promise<void> {
    const { slots, users } = this.#parts;
    this.#agent?.close();
    this.#tools.close();
    this.#egress?.proxy.close();
    await this.#sandbox?.destroy();
    await slots.remove(this.nonce);
    if (this.#user !== undefined) await users.release(this.#user);
  }
}
