import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type Dockerode from "dockerode";
import { unpackAgentRootfs } from "./agent-image.ts";
import type { DebianBase } from "./debian-base.ts";
import { buildImage } from "./images.ts";
import { repositoryRoot } from "./paths.ts";
import { run } from "./run-command.ts";

/** An agent that is published as an npm package: `infra/images/<name>` has its lock file and its Dockerfile. */
export interface NpmAgent {
  readonly name: string;
  /** What the image takes over, below the recipe's directory, and where to. */
  readonly files: Readonly<Record<string, string>>;
  /** The agent's main process, by the paths in the image. */
  readonly command: readonly string[];
}

const CLAUDE_PROGRAM = "@agentclientprotocol/claude-agent-acp/dist/index.js";

export const claude: NpmAgent = {
  name: "agent-claude",
  files: {
    node_modules: "/opt/agent/node_modules",
    "managed-settings.json": "/etc/claude-code/managed-settings.json",
  },
  command: ["/usr/local/bin/node", `/opt/agent/node_modules/${CLAUDE_PROGRAM}`],
};

export const opencode: NpmAgent = {
  name: "agent-opencode",
  files: {
    "node_modules/opencode-linux-x64": "/opt/agent/node_modules/opencode-linux-x64",
    "opencode.json": "/opt/agent/opencode.json",
  },
  command: ["/opt/agent/node_modules/opencode-linux-x64/bin/opencode", "acp"],
};

const recipeOf = ({ name }: NpmAgent): string => join(repositoryRoot, "infra/images", name);

/** Installs an agent's packages, unless they are there as its lock file has them. */
export async function installNpmAgent(agent: NpmAgent, signal?: AbortSignal): Promise<void> {
  const directory = recipeOf(agent);
  const installed = join(directory, "node_modules/.installed");
  const lock = await readFile(join(directory, "package-lock.json"), "utf8");
  if ((await readFile(installed, "utf8").catch(() => "")) === lock) return;
  await run(["npm", "ci", "--omit=dev", "--no-audit", "--no-fund"], { cwd: directory, signal });
  await writeFile(installed, lock);
}

/** Builds the image of an installed agent; gives its name. */
export async function buildNpmAgentImage(
  engine: Dockerode,
  base: DebianBase,
  agent: NpmAgent,
): Promise<string> {
  return await buildImage(engine, base, {
    repository: `longshore/${agent.name}`,
    dockerfile: `infra/images/${agent.name}/Dockerfile`,
    context: [{ directory: recipeOf(agent), names: Object.keys(agent.files) }],
  });
}

/** The same as a root file system for bubblewrap; see `unpackAgentRootfs`. */
export async function unpackNpmAgentRootfs(
  base: DebianBase,
  agent: NpmAgent,
  target: string,
  signal?: AbortSignal,
): Promise<string> {
  await unpackAgentRootfs(base, target, signal);
  for (const [name, path] of Object.entries(agent.files)) {
    await mkdir(dirname(join(target, path)), { recursive: true });
    await cp(join(recipeOf(agent), name), join(target, path), { recursive: true, verbatimSymlinks: true });
  }
  return target;
}
