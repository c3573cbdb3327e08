import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { nodeBinary, repositoryRoot } from "../../../infra/setup/paths.ts";

export interface LongshoreResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the `longshore` command as a shell would, and waits for its end. */
export async function longshore(
  args: readonly string[],
  { environment, input = "" }: { readonly environment: NodeJS.ProcessEnv; readonly input?: string },
): Promise<LongshoreResult> {
  const child = spawn(nodeBinary, [join(repositoryRoot, "apps/cli/bin/longshore.mjs"), ...args], {
    cwd: repositoryRoot,
    env: environment,
    stdio: ["pipe", "pipe", "pipe"],
  });
  child.stdin.end(input);
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  return { status: child.exitCode, stdout, stderr };
}
