import { join } from "node:path";
import { buildAgentImage, buildHelpers, bundleAgent, unpackAgentRootfs } from "./agent-image.ts";
import { type DebianBase, debianBase } from "./debian-base.ts";
import { installPrograms } from "./debian-packages.ts";
import { startDocker } from "./docker-engine.ts";
import { SetupError } from "./errors.ts";
import type { LocalSandbox } from "./fleet-configuration.ts";
import { engineAt, namedEngine } from "./provided-services.ts";
import type { SetupContext } from "./setup-context.ts";

/**
 * The best sandbox for the reference agent on this machine: Docker where an engine answers or a private one
 * can be started, else bubblewrap, and then why.
 *
 * @param directory For a private engine, or the root file system; the caller's to remove.
 * @param stack Ends the private engine.
 */
export async function sandboxAtHand(
  context: SetupContext,
  directory: string,
  stack: AsyncDisposableStack,
): Promise<LocalSandbox> {
  await installPrograms(["setpriv", "mmdebstrap", "bwrap", "mkfs.ext4", "musl-gcc", "sqlite3"], context);
  const [base] = await Promise.all([
    debianBase(context),
    bundleAgent(context.signal),
    buildHelpers(context.signal),
  ]);
  try {
    return await dockerSandbox(context, join(directory, "docker"), base, stack);
  } catch (error) {
    if (!(error instanceof SetupError) || context.signal?.aborted) throw error;
    context.report(`no Docker engine, so bubblewrap: ${error.message.split("\n")[0]}`);
    const rootfs = await unpackAgentRootfs(base, join(directory, "rootfs"), context.signal);
    return { runtime: "bwrap", rootfs };
  }
}

async function dockerSandbox(
  context: SetupContext,
  directory: string,
  base: DebianBase,
  stack: AsyncDisposableStack,
): Promise<LocalSandbox> {
  let engine = await namedEngine(process.env);
  if (engine === null) {
    await installPrograms(["dockerd"], context);
    engine = stack.use(await startDocker({ directory, signal: context.signal })).url;
  }
  return { runtime: "docker", engine, image: await buildAgentImage(engineAt(engine), base) };
}
