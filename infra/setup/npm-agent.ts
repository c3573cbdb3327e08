import { chmod, copyFile, cp, mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type Dockerode from "dockerode";
import { unpackAgentRootfs } from "./agent-image.ts";
import { contentHash } from "./archive.ts";
import type { DebianBase } from "./debian-base.ts";
import { buildImage } from "./images.ts";
import { cacheDirectory, repositoryRoot } from "./paths.ts";
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

/**
 * Installs an agent's packages into a copy of its recipe, once for each state of the recipe. Who comes while another one is
 * at it does the same work, and the first to be ready gives the copy its name.
 *
 * @returns the copy
 */
export async function installNpmAgent({ name }: NpmAgent, signal?: AbortSignal): Promise<string> {
  const recipe = join(repositoryRoot, "infra/images", name);
  const files = (await readdir(recipe)).filter((file) => file !== "node_modules").sort();
  const installed = join(
    cacheDirectory,
    `${name}-${await contentHash([{ directory: recipe, names: files }])}`,
  );
  if (await isThere(installed)) return installed;
  await mkdir(cacheDirectory, { recursive: true });
  const staging = await mkdtemp(`${installed}-`);
  try {
    for (const file of files) await copyFile(join(recipe, file), join(staging, file));
    await run(["npm", "ci", "--omit=dev", "--no-audit", "--no-fund"], { cwd: staging, signal });
    await chmod(staging, 0o755);
    await rename(staging, installed).catch(async (error) => {
      if (!(await isThere(installed))) throw error;
    });
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
  return installed;
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}

/** Builds the image of an agent that `installNpmAgent` installed; gives its name. */
export async function buildNpmAgentImage(
  engine: Dockerode,
  base: DebianBase,
  agent: NpmAgent,
  installed: string,
): Promise<string> {
  return await buildImage(engine, base, {
    repository: `longshore/${agent.name}`,
    dockerfile: `infra/images/${agent.name}/Dockerfile`,
    context: [{ directory: installed, names: Object.keys(agent.files) }],
  });
}

/** The same as a root file system for bubblewrap; see `unpackAgentRootfs`. */
export async function unpackNpmAgentRootfs(
  base: DebianBase,
  agent: NpmAgent,
  installed: string,
  target: string,
  signal?: AbortSignal,
): Promise<string> {
  await unpackAgentRootfs(base, target, signal);
  for (const [name, path] of Object.entries(agent.files)) {
    await mkdir(dirname(join(target, path)), { recursive: true });
    await cp(join(installed, name), join(target, path), { recursive: true, verbatimSymlinks: true });
  }
  return target;
}
