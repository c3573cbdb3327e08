import { join } from "node:path";
import { benchmarks, benchUsage } from "../../test/bench/benchmarks.ts";
import type { CommandContext } from "./command.ts";
import { nodeBinary, repositoryRoot } from "./paths.ts";
import { provideServices } from "./provided-services.ts";
import { runOnTerminal } from "./run-command.ts";

/** `npm run bench -- NAME [--json|--markdown]`: one benchmark of `test/bench` on real services. */
export async function bench(context: CommandContext): Promise<number> {
  // Asked before anything is started: services for a misspelt name would be a waste.
  if (!context.args.some((word) => benchmarks.has(word))) {
    console.error(benchUsage);
    return 2;
  }
  // The programs that the store is measured beside.
  const peers = context.args.includes("store") ? (["rclone", "restic", "aws"] as const) : [];
  await using services = await provideServices(context, process.env, peers);
  return await runOnTerminal([nodeBinary, join(repositoryRoot, "test/bench/main.ts"), ...context.args], {
    cwd: repositoryRoot,
    env: services.environment,
    signal: context.signal,
  });
}
