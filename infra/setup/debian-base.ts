import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { requireProgram } from "./debian-packages.ts";
import { cacheDirectory, nodeBinary, repositoryRoot } from "./paths.ts";
import { asRoot } from "./privilege.ts";
import { run } from "./run-command.ts";
import type { SetupContext } from "./setup-context.ts";

/** A root file system to build images on without a registry. */
export interface DebianBase {
  /** An uncompressed tar of it. */
  readonly tar: string;
  /** Names its content: the same for the same recipe, release, architecture and version of Node.js. */
  readonly key: string;
}

const recipe = {
  /** Beyond Debian's essential packages: what Node.js needs, `ps` for agents, bwrap for the worker. */
  packages: ["libstdc++6", "procps", "bubblewrap"],
  leftOut: ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*"],
};

const filePrefix = "debian-base-";

/**
 * The base, made from Debian's packages once (about 20 s) and kept in the clone's cache: the machine's own
 * release with the Node.js of `node_modules` at `/usr/local/bin/node`.
 */
export async function debianBase(context: SetupContext): Promise<DebianBase> {
  const release = await releaseName();
  const key = await contentKey(release);
  const tar = join(cacheDirectory, `${filePrefix}${key}.tar`);
  await mkdir(cacheDirectory, { recursive: true });
  const cached = (await readdir(cacheDirectory)).filter((name) => name.startsWith(filePrefix));
  if (!cached.includes(`${filePrefix}${key}.tar`)) {
    context.report(`making a base image of Debian's packages (${release})`);
    const unfinished = join(cacheDirectory, `unfinished-${key}-${process.pid}.tar`);
    try {
      await run(
        asRoot([requireProgram("mmdebstrap"), ...mmdebstrapArguments(nodeBinary), release, unfinished]),
        {
          signal: context.signal,
        },
      );
      await rename(unfinished, tar);
    } finally {
      await rm(unfinished, { force: true });
    }
    await Promise.all(cached.map((name) => rm(join(cacheDirectory, name), { force: true })));
  }
  return { tar, key };
}

function mmdebstrapArguments(node: string): string[] {
  return [
    "--quiet",
    "--variant=essential",
    `--include=${recipe.packages.join(",")}`,
    '--aptopt=APT::Install-Recommends "false"',
    ...recipe.leftOut.map((pattern) => `--dpkgopt=path-exclude=${pattern}`),
    `--customize-hook=upload '${node}' /usr/local/bin/node`,
    // An upload loses the file's mode.
    '--customize-hook=chmod 755 "$1/usr/local/bin/node"',
    "--format=tar",
  ];
}

async function contentKey(release: string): Promise<string> {
  const { version } = JSON.parse(
    await readFile(join(repositoryRoot, "node_modules/node/package.json"), "utf8"),
  );
  return createHash("sha256")
    .update(
      JSON.stringify({
        arguments: mmdebstrapArguments("node"),
        release,
        version,
        architecture: process.arch,
      }),
    )
    .digest("hex")
    .slice(0, 12);
}

async function releaseName(): Promise<string> {
  const text = await readFile("/etc/os-release", "utf8").catch(() => "");
  return /^VERSION_CODENAME=(\w+)$/m.exec(text)?.[1] ?? "stable";
}
