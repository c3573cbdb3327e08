import { shutdownSignal, systemClock } from "@longshore/shared";
import { CommanderError } from "commander";
import { UsageError } from "./errors.ts";
import { Output } from "./output.ts";
import { buildProgram } from "./program.ts";

const OK = 0;
const FAILED = 1;
const USAGE = 2;

const output = new Output({ stdout: process.stdout, stderr: process.stderr });
// A reader that has seen enough (`longshore sessions ls | head`) is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) =>
  process.exit(error.code === "EPIPE" ? OK : FAILED),
);
process.exitCode = await main();

async function main(): Promise<number> {
  let status = OK;
  const signal = shutdownSignal();
  const program = buildProgram(
    { output, input: process.stdin, environment: process.env, clock: systemClock, signal },
    (given) => {
      status = given;
    },
  );
  try {
    await program.parseAsync();
    return status;
  } catch (error) {
    // It has said already what is wrong.
    if (error instanceof CommanderError) return error.exitCode === 0 ? OK : USAGE;
    if (signal.aborted) return 130;
    output.error(error);
    return error instanceof UsageError ? USAGE : FAILED;
  }
}
