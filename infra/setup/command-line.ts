import { LongshoreError } from "@longshore/shared";
import type { Command } from "./command.ts";

const exitStatuses = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/**
 * Runs the command that the words name and gives the exit status: its own, 1 for an error, 2 for an
 * unknown name, 128 + n when interrupted by signal n.
 *
 * SIGINT, SIGTERM, SIGHUP and the death of a parent that holds an IPC channel abort the command's signal;
 * it then ends what it started. More signals while it does so change nothing: each of its steps is
 * bounded.
 */
export async function runCommandLine(
  commands: ReadonlyMap<string, () => Promise<Command>>,
  [name = "", ...args]: readonly string[],
): Promise<number> {
  const load = commands.get(name);
  if (load === undefined) {
    console.error(`usage: node infra/setup/run.mjs ${[...commands.keys()].join("|")} [ARGUMENT...]`);
    return 2;
  }
  const interruption = new AbortController();
  let interruptedStatus = 1;
  for (const [signal, status] of Object.entries(exitStatuses)) {
    process.on(signal, () => {
      interruptedStatus = status;
      interruption.abort(new Error(`interrupted by ${signal}`));
    });
  }
  process.once("disconnect", () =>
    interruption.abort(new Error("the process that started this one is gone")),
  );
  try {
    const command = await load();
    return await command({
      args,
      signal: interruption.signal,
      report: (line) => console.error(`longshore: ${line}`),
    });
  } catch (error) {
    if (interruption.signal.aborted) {
      console.error(`longshore: ${(interruption.signal.reason as Error).message}`);
      return interruptedStatus;
    }
    if (error instanceof LongshoreError) {
      console.error(`longshore: ${error.message}`);
      return 1;
    }
    throw error;
  } finally {
    // The channel would keep this process alive.
    process.channel?.unref();
  }
}
