import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type Dockerode from "dockerode";
import type { DebianBase } from "./debian-base.ts";
import { buildImage, hasImage, importBase } from "./images.ts";
import { repositoryRoot } from "./paths.ts";
import { run } from "./run-command.ts";

const bundle = "apps/agent-shell/dist/main.js";

const repository = "longshore/agent-shell";

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

/**
 * Builds the reference agent's image of the bundle, unless the engine has it.
 *
 * @returns its name, which holds a hash of its content, so that clones that share an engine don't take
 * each other's; it gets the tag `longshore/agent-shell:dev` too.
 */
export async function buildAgentImage(engine: Dockerode, base: DebianBase): Promise<string> {
  const dockerfile = "infra/images/agent-shell/Dockerfile";
  const hash = createHash("sha256").update(base.key);
  for (const file of [dockerfile, bundle]) {
    hash.update(await readFile(join(repositoryRoot, file)));
  }
  const name = `${repository}:${hash.digest("hex").slice(0, 12)}`;
  if (!(await hasImage(engine, name))) {
    const baseName = await importBase(engine, base);
    await buildImage(engine, { name, context: repositoryRoot, files: [bundle], dockerfile, base: baseName });
  }
  await engine.getImage(name).tag({ repo: repository, tag: "dev" });
  return name;
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
