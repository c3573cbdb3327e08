import type { SandboxRuntime } from "@longshore/sandbox";
import type { AgentDefinition, NotReady } from "@longshore/shared";

/**
 * The runtimes of this host, and which of them an agent gets: the one it names, or with `auto` docker where
 * the engine answered when it was last asked, else bwrap.
 */
export class Runtimes {
  readonly #docker: SandboxRuntime;
  readonly #bwrap: SandboxRuntime;
  #dockerAnswers = false;

  constructor(docker: SandboxRuntime, bwrap: SandboxRuntime) {
    this.#docker = docker;
    this.#bwrap = bwrap;
  }

  of(agent: AgentDefinition): SandboxRuntime {
    const docker = agent.runtime === "docker" || (agent.runtime === "auto" && this.#dockerAnswers);
    return docker ? this.#docker : this.#bwrap;
  }

  /** Those that these agents need, or may need: what a reaper has to look at. */
  usedBy(agents: readonly AgentDefinition[]): SandboxRuntime[] {
    const docker = agents.some(({ runtime }) => runtime === "docker") || this.#dockerAnswers;
    return docker ? [this.#docker, this.#bwrap] : [this.#bwrap];
  }

  /** Why sandboxes of these agents can't be started now; empty where all can. */
  async check(agents: readonly AgentDefinition[]): Promise<NotReady[]> {
    if (agents.some(({ runtime }) => runtime === "auto")) {
      this.#dockerAnswers = await this.#docker.check().then(
        () => true,
        () => false,
      );
    }
    const needed = [...new Set(agents.map((agent) => this.of(agent)))];
    const checks = await Promise.allSettled(needed.map((runtime) => runtime.check()));
    return checks.flatMap((check) => (check.status === "rejected" ? [(check.reason as Error).message] : []));
  }
}
