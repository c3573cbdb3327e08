import { join } from "node:path";
import type { CommandContext } from "./command.ts";
import { nodeBinary, repositoryRoot } from "./paths.ts";
import { provideServices } from "./provided-services.ts";
import { runOnTerminal } from "./run-command.ts";

/** `npm run test:chaos [-- ARGUMENT...]`: the chaos suite of `test/chaos` on real services. */
export async function chaos(context: CommandContext): Promise<number> {
  await using services = await provideServices(context, process.env);
  return await runOnTerminal([nodeBinary, join(repositoryRoot, "test/chaos/main.ts"), ...context.args], {
    cwd: repositoryRoot,
    env: services.environment,
    signal: context.signal,
  });
}
