import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { debianBase } from "../../infra/setup/debian-base.ts";
import {
  buildNpmAgentImage,
  installNpmAgent,
  type NpmAgent,
  unpackNpmAgentRootfs,
} from "../../infra/setup/npm-agent.ts";
import { engineAt } from "../../infra/setup/provided-services.ts";
import { required } from "./fleet.ts";
import type { MessagesApi } from "./messages-api.ts";

/** A real agent that people have, as an image or a root file system. */
export class ProvidedAgent implements AsyncDisposable {
  readonly #place: Readonly<Record<string, unknown>>;
  readonly #directory: string;

  private constructor(directory: string, place: Readonly<Record<string, unknown>>) {
    this.#directory = directory;
    this.#place = place;
  }

  static async provide(agent: NpmAgent, runtime: "docker" | "bwrap"): Promise<ProvidedAgent> {
    const directory = await mkdtemp(join(tmpdir(), "longshore-agent-"));
    await chmod(directory, 0o711);
    const [base, installed] = await Promise.all([
      debianBase({ report: console.error }),
      installNpmAgent(agent),
    ]);
    if (runtime === "docker") {
      const image = await buildNpmAgentImage(engineAt(required("DOCKER_HOST")), base, agent, installed);
      return new ProvidedAgent(directory, { image });
    }
    const rootfs = await unpackNpmAgentRootfs(base, agent, installed, join(directory, "rootfs"));
    return new ProvidedAgent(directory, { rootfs, command: agent.command });
  }

  /** What its definition says, with the provider as the upstream of its credential. */
  definition(provider: MessagesApi): Readonly<Record<string, unknown>> {
    return {
      ...this.#place,
      env: { ANTHROPIC_API_KEY: "placeholder" },
      egress: {
        credentials: [
          {
            upstream: provider.url,
            private: true,
            as: "/anthropic",
            header: "x-api-key",
            secret: provider.key,
            variable: "ANTHROPIC_BASE_URL",
          },
        ],
      },
      limits: { memory: "1GiB", cpus: 2, pids: 256 },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
  }
}
