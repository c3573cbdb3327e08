import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BwrapRuntime, DockerRuntime, findHostTools, type SandboxRuntime } from "@longshore/sandbox";
import { engineAddress, HOST, type Platform, platforms } from "../conformance/sandbox/platforms.ts";
import { alterEngine } from "./altering-engine.ts";

/** The runtimes that the attacks are tried on. */
export const attacked: readonly Platform[] = platforms.filter(({ name }) => name !== "bwrap without cgroups");

/** Walls to take down. */
export interface Weakness {
  /** The sandbox is on the host's network. */
  readonly network?: true;
  /** It has these variables, by mistake. */
  readonly env?: Readonly<Record<string, string>>;
  /** It sees this directory of the host at the same path, writable. */
  readonly directory?: string;
}

/** A platform as it would be with a mistake in it: an attack that does not succeed on it proves nothing. */
export interface WeakenedPlatform extends AsyncDisposable {
  readonly platform: Platform;
}

export async function weaken(platform: Platform, weakness: Weakness): Promise<WeakenedPlatform> {
  const directory = await mkdtemp(join(tmpdir(), "longshore-weakened-"));
  await chmod(directory, 0o711);
  return platform.name.startsWith("docker")
    ? weakenedDocker(platform, weakness, directory)
    : weakenedBwrap(platform, weakness, directory);
}

async function weakenedDocker(
  platform: Platform,
  { network, env, directory: shown }: Weakness,
  directory: string,
): Promise<WeakenedPlatform> {
  const path = join(directory, "engine.sock");
  const engine = await alterEngine(engineAddress, path, (request) => {
    if (network) request.HostConfig.NetworkMode = "host";
    request.Env.push(...Object.entries(env ?? {}).map(([name, value]) => `${name}=${value}`));
    if (shown !== undefined) request.HostConfig.Mounts.push({ Type: "bind", Source: shown, Target: shown });
  });
  const runtime = (runDirectory: string): SandboxRuntime =>
    new DockerRuntime({ address: `unix://${path}`, host: HOST, runDirectory });
  return {
    platform: { ...platform, runtime },
    async [Symbol.asyncDispose]() {
      engine.close();
      await rm(directory, { recursive: true });
    },
  };
}

async function weakenedBwrap(
  platform: Platform,
  { network, env, directory: shown }: Weakness,
  directory: string,
): Promise<WeakenedPlatform> {
  const tools = findHostTools();
  const bwrap = join(directory, "bwrap");
  const more = [
    ...(network ? ["--share-net"] : []),
    ...Object.entries(env ?? {}).flatMap(([name, value]) => ["--setenv", name, value]),
    ...(shown === undefined ? [] : ["--bind", shown, shown]),
  ];
  const words = more.map((word) => `'${word}'`).join(" ");
  // After the options that come by a descriptor (`--args N`), and before the command.
  await writeFile(
    bwrap,
    `#!/bin/sh\n[ "$1" = --args ] || exec ${tools.bwrap} "$@"\nfd=$2\nshift 2\nexec ${tools.bwrap} --args "$fd" ${words} "$@"\n`,
  );
  await chmod(bwrap, 0o755);
  const runtime = (runDirectory: string): SandboxRuntime =>
    new BwrapRuntime({ host: HOST, runDirectory, tools: { ...tools, bwrap } });
  return {
    platform: { ...platform, runtime },
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true }),
  };
}
