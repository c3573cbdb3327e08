import { randomBytes } from "node:crypto";
import type { Sandbox, SandboxUser, SandboxUsers, Slots, WarmKind, WarmMember } from "@longshore/sandbox";
import type { AgentDefinition } from "@longshore/shared";
import { AcpAgent } from "./acp-agent.ts";
import type { ActivationParts } from "./activation.ts";
import { definitionHash } from "./definition-hash.ts";
import { hasEgress } from "./egress.ts";
import { startSandbox } from "./start-sandbox.ts";

/** An agent whose sandboxes are to be held warm. */
export interface WarmAgent extends WarmKind {
  readonly definition: AgentDefinition;
}

export function warmAgent(name: string, definition: AgentDefinition): WarmAgent {
  return {
    name,
    hash: definitionHash(definition),
    size: hasEgress(definition) ? 0 : definition.warm,
    definition,
  };
}

export interface WarmSandboxParts extends Pick<ActivationParts, "runtimeOf" | "clock" | "host" | "worker"> {
  readonly slots: Pick<Slots, "create" | "furnish" | "remove">;
  readonly users: Pick<SandboxUsers, "acquire" | "release">;
}

/**
 * A sandbox that was started ahead of its session: its agent has answered `initialize` and knows of no session, its slot
 * holds the four directories and nothing of anybody. Whoever takes it writes the session's files into the slot: a mount
 * that is made below it now would not be seen inside.
 */
export class WarmSandbox implements WarmMember {
  readonly nonce = randomBytes(16).toString("hex");
  readonly #kind: WarmAgent;
  readonly #parts: WarmSandboxParts;
  #user: SandboxUser | undefined;
  #sandbox: Sandbox | undefined;
  #agent: AcpAgent | undefined;
  #slotDirectory: string | undefined;

  constructor(kind: WarmAgent, parts: WarmSandboxParts) {
    this.#kind = kind;
    this.#parts = parts;
  }

  async prepare(signal: AbortSignal): Promise<void> {
    const { slots, users, runtimeOf, clock, host, worker } = this.#parts;
    const { definition, hash } = this.#kind;
    const user = await users.acquire();
    this.#user = user;
    const slotDirectory = await slots.create(this.nonce, user);
    this.#slotDirectory = slotDirectory;
    await slots.furnish(this.nonce, user);
    const whose = { host, worker, tenant: definition.tenant, sessionId: "", epoch: 0 };
    const labels = { ...whose, nonce: this.nonce, definition: hash };
    const place = { labels, slotDirectory, user };
    this.#sandbox = await startSandbox(runtimeOf(definition), definition, place, signal);
    this.#agent = new AcpAgent(this.#sandbox, definition, clock);
    await this.#agent.initialize(signal);
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
    return { user, slotDirectory, sandbox, agent };
  }

  async destroy(): Promise<void> {
    const { slots, users } = this.#parts;
    this.#agent?.close();
    await this.#sandbox?.destroy();
    await slots.remove(this.nonce);
    if (this.#user !== undefined) await users.release(this.#user);
  }
}
