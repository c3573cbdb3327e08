import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { CommandContext } from "./command.ts";
import { cacheDirectory, repositoryRoot } from "./paths.ts";
import { provideServices } from "./provided-services.ts";
import { capture } from "./run-command.ts";
import { runSuites } from "./run-suites.ts";
import { type Outcome, readReport, summaryLine } from "./test-outcome.ts";

const reportFile = join(cacheDirectory, "test-report.json");
/** Holds the line that `.ci/run` ends with. */
const summaryFile = join(cacheDirectory, "test-summary");

/**
 * `npm test [-- VITEST-ARGUMENT...]`: type check, lint and every suite on real services. All three are
 * run whatever the others say; type check and lint count as one test each when they fail, and so does each
 * process that a test left behind.
 */
export async function test(context: CommandContext): Promise<number> {
  await mkdir(cacheDirectory, { recursive: true });
  await Promise.all([reportFile, summaryFile].map((file) => rm(file, { force: true })));
  const checks = Promise.all([check(context, "typecheck"), check(context, "lint")]);
  checks.catch(() => {
    // Awaited below, once the services are up or have failed to come up.
  });
  const outcomes = [await suites(context), ...(await checks)];
  const summary = summaryLine(outcomes);
  await writeFile(summaryFile, `${summary}\n`);
  console.log(summary);
  return outcomes.some(({ failed }) => failed > 0) ? 1 : 0;
}

async function check(context: CommandContext, script: "typecheck" | "lint"): Promise<Outcome> {
  const { status, output } = await capture(["npm", "run", "--silent", script], {
    cwd: repositoryRoot,
    signal: context.signal,
  });
  if (status !== 0) {
    console.error(`longshore: ${script} failed\n${output}`);
  }
  return { passed: 0, failed: status === 0 ? 0 : 1, skipped: 0 };
}

async function suites(context: CommandContext): Promise<Outcome> {
  await using services = await provideServices(context, process.env, ["promtool"]);
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${reportFile}`];
  const { status, leftProcesses } = await runSuites(["vitest", "run", ...reporters, ...context.args], {
    cwd: repositoryRoot,
    // Tests start hundreds of processes of the same sources; each is up a third sooner.
    environment: { NODE_COMPILE_CACHE: join(cacheDirectory, "node-compile"), ...services.environment },
    reportFile,
    signal: context.signal,
  });
  for (const process of leftProcesses) {
    console.error(`longshore: a test left a process behind: ${process}`);
  }
  const outcome = await readReport(reportFile, status);
  return { ...outcome, failed: outcome.failed + leftProcesses.length };
}
