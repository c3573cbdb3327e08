import { copyFile, mkdir } from "node:fs/promises";
import { join } from "node:path";
import type Dockerode from "dockerode";
import type { DebianBase } from "./debian-base.ts";
import { buildImage } from "./images.ts";
import { repositoryRoot } from "./paths.ts";
import { run } from "./run-command.ts";

const bundle = "apps/agent-shell/dist/main.js";

/**
 * Bundles the reference agent (`apps/agent-shell/dist/main.js`): what image and root file system take
 * over as it is.
 */
export async function bundleAgent(signal?: AbortSignal): Promise<void> {
  await run(["npm", "run", "--silent", "build", "--workspace", "apps/agent-shell"], {
    cwd: repositoryRoot,
    signal,
  });
}

/** Builds the programs that Longshore puts into sandboxes (`packages/sandbox/dist`). */
export async function buildHelpers(signal?: AbortSignal): Promise<void> {
  await run(["npm", "run", "--silent", "build", "--workspace", "packages/sandbox"], {
    cwd: repositoryRoot,
    signal,
  });
}

/** Builds the reference agent's image of the bundle; gives its name. */
export async function buildAgentImage(engine: Dockerode, base: DebianBase): Promise<string> {
  return await buildImage(engine, base, {
    repository: "longshore/agent-shell",
    dockerfile: "infra/images/agent-shell/Dockerfile",
    context: [{ directory: repositoryRoot, names: [bundle] }],
  });
}

/**
 * Unpacks base and bundle as a root file system for bubblewrap, with the agent where its image has it
 * (`/opt/agent/main.js`).
 *
 * @param directory Where to; it has to be reachable for every user, since bubblewrap is not run as root.
 */
export async function unpackAgentRootfs(
  base: DebianBase,
  directory: string,
  signal?: AbortSignal,
): Promise<string> {
  await mkdir(directory, { recursive: true });
  const extract = ["--extract", "--file", base.tar, "--directory", directory];
  // Device files are bubblewrap's own, and only root could make them.
  await run(["tar", ...extract, "--exclude=./dev/*", "--no-same-owner"], { signal });
  await mkdir(join(directory, "opt/agent"), { recursive: true });
  await copyFile(join(repositoryRoot, bundle), join(directory, "opt/agent/main.js"));
  return directory;
}
