import { createHash } from "node:crypto";
import { copyFile, glob, mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type Dockerode from "dockerode";
import type { Files } from "./archive.ts";
import type { DebianBase } from "./debian-base.ts";
import { buildImage } from "./images.ts";
import { cacheDirectory, repositoryRoot } from "./paths.ts";
import { run } from "./run-command.ts";
import type { SetupContext } from "./setup-context.ts";

/** The names of the fleet's images. */
export interface FleetImages {
  readonly dispatcher: string;
  readonly worker: string;
}

const cachePrefix = "production-packages-";

/**
 * Builds the images of dispatcher and worker as they are deployed, but with npm packages that are
 * installed here, since a build has no network.
 */
export async function buildFleetImages(
  engine: Dockerode,
  base: DebianBase,
  context: SetupContext,
): Promise<FleetImages> {
  const manifests = await matching("{apps,packages}/*/package.json");
  const sources: Files = {
    directory: repositoryRoot,
    names: [...rootManifests, ...manifests, ...(await matching("{apps,packages}/*/src"))],
  };
  const files = [sources, await productionPackages(manifests, context)];
  const build = async (app: "dispatcher" | "worker") =>
    await buildImage(engine, base, {
      repository: `longshore/${app}`,
      dockerfile: `infra/images/${app}/Dockerfile`,
      context: files,
    });
  // One after the other: the second finds the layers that they share.
  const dispatcher = await build("dispatcher");
  return { dispatcher, worker: await build("worker") };
}

const rootManifests = ["package.json", "package-lock.json"];

/**
 * The npm packages that the fleet runs with, without those of its development: installed once for each
 * state of the manifests and kept in the clone's cache.
 */
async function productionPackages(manifests: readonly string[], context: SetupContext): Promise<Files> {
  const hash = createHash("sha256");
  for (const name of [...rootManifests, ...manifests]) {
    hash.update(await readFile(join(repositoryRoot, name)));
  }
  const directory = join(cacheDirectory, `${cachePrefix}${hash.digest("hex").slice(0, 12)}`);
  const cached = (await readdir(cacheDirectory)).filter((name) => name.startsWith(cachePrefix));
  if (!cached.some((name) => join(cacheDirectory, name) === directory)) {
    context.report("installing the npm packages of the fleet's images");
    const unfinished = join(cacheDirectory, `unfinished-packages-${process.pid}`);
    try {
      for (const name of [...rootManifests, ...manifests]) {
        await mkdir(dirname(join(unfinished, name)), { recursive: true });
        await copyFile(join(repositoryRoot, name), join(unfinished, name));
      }
      const options = [
        "--omit=dev",
        "--omit=peer",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--prefer-offline",
      ];
      await run(["npm", "ci", ...options], { cwd: unfinished, signal: context.signal });
      await rename(unfinished, directory);
    } finally {
      await rm(unfinished, { recursive: true, force: true });
    }
    await Promise.all(cached.map((name) => rm(join(cacheDirectory, name), { recursive: true, force: true })));
  }
  const nested = await matching("{apps,packages}/*/node_modules", directory);
  return { directory, names: ["node_modules", ...nested] };
}

async function matching(pattern: string, directory: string = repositoryRoot): Promise<string[]> {
  const names: string[] = [];
  for await (const name of glob(pattern, { cwd: directory })) {
    names.push(name);
  }
  return names.toSorted();
}
