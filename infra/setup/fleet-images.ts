import { createHash } from "node:crypto";
import { copyFile, glob, mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type Dockerode from "dockerode";
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

const filePrefix = "fleet-base-";
/** The programs for sandboxes, which are built before: an image's build here has no compiler. */
const helpers = ["longshore-init", "longshore-mailbox", "longshore-host"].map(
  (name) => `packages/sandbox/dist/${name}`,
);
const rootManifests = ["package.json", "package-lock.json"];

/**
 * Builds the images of dispatcher and worker as they are deployed, but on a base that has their npm
 * packages already, since a build here has no network.
 */
export async function buildFleetImages(
  engine: Dockerode,
  base: DebianBase,
  context: SetupContext,
): Promise<FleetImages> {
  const manifests = [...rootManifests, ...(await matching("{apps,packages}/*/package.json"))];
  const names = [...manifests, ...(await matching("{apps,packages}/*/src")), ...helpers];
  const fleetBase = await baseWithPackages(base, manifests, context);
  const build = async (app: "dispatcher" | "worker") =>
    await buildImage(engine, fleetBase, {
      repository: `longshore/${app}`,
      dockerfile: `infra/images/${app}/Dockerfile`,
      context: [{ directory: repositoryRoot, names }],
    });
  // One after the other: the second finds the layers that they share.
  const dispatcher = await build("dispatcher");
  return { dispatcher, worker: await build("worker") };
}

/**
 * The base with the npm packages that the fleet runs with, without those of its development, below
 * `/opt/longshore`: made once for each state of the manifests and kept in the clone's cache. An engine
 * takes it in far faster than it copies thousands of files in a build.
 */
async function baseWithPackages(
  base: DebianBase,
  manifests: readonly string[],
  context: SetupContext,
): Promise<DebianBase> {
  const hash = createHash("sha256").update(base.key);
  for (const name of manifests) {
    hash.update(await readFile(join(repositoryRoot, name)));
  }
  const key = hash.digest("hex").slice(0, 12);
  const tar = join(cacheDirectory, `${filePrefix}${key}.tar`);
  const cached = (await readdir(cacheDirectory)).filter((name) => name.startsWith(filePrefix));
  if (!cached.includes(`${filePrefix}${key}.tar`)) {
    context.report("installing the npm packages of the fleet's images");
    const unfinished = join(cacheDirectory, `unfinished-${key}-${process.pid}`);
    try {
      await makeBaseWithPackages(base, manifests, unfinished, context.signal);
      await rename(join(unfinished, "base.tar"), tar);
    } finally {
      await rm(unfinished, { recursive: true, force: true });
    }
    await Promise.all(cached.map((name) => rm(join(cacheDirectory, name), { force: true })));
  }
  return { tar, key };
}

/** Leaves it as `base.tar` in a directory to be made. */
async function makeBaseWithPackages(
  base: DebianBase,
  manifests: readonly string[],
  directory: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const name of manifests) {
    await mkdir(dirname(join(directory, name)), { recursive: true });
    await copyFile(join(repositoryRoot, name), join(directory, name));
  }
  const options = ["--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"];
  await run(["npm", "ci", ...options], { cwd: directory, signal });
  const tar = join(directory, "base.tar");
  await copyFile(base.tar, tar);
  const installed = ["node_modules", ...(await matching("{apps,packages}/*/node_modules", directory))];
  await run(
    [
      ...["tar", "--append", "--file", tar, "--owner=0", "--group=0", "--numeric-owner"],
      // Below the fleet's directory; `S`: what links point to stays as it is.
      ...["--transform", "s,^,./opt/longshore/,S", "--directory", directory, ...installed],
    ],
    { signal },
  );
}

async function matching(pattern: string, directory: string = repositoryRoot): Promise<string[]> {
  const names: string[] = [];
  for await (const name of glob(pattern, { cwd: directory })) {
    names.push(name);
  }
  return names.toSorted();
}
