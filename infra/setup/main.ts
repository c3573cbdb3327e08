import { LongshoreError } from "@longshore/shared";
import { commands } from "./command.ts";

const [name = "", ...args] = process.argv.slice(2);
process.exitCode = await main();
// The channel to run.mjs would keep this process alive.
process.channel?.unref();

async function main(): Promise<number> {
  const load = commands.get(name);
  if (load === undefined) {
    console.error(`usage: node infra/setup/run.mjs ${[...commands.keys()].join("|")} [ARGUMENT...]`);
    return 2;
  }
  const interruption = new AbortController();
  let status = 1;
  for (const [signal, itsStatus] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const) {
    process.on(signal, () => {
      status = itsStatus;
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
      return status;
    }
    if (error instanceof LongshoreError) {
      console.error(`longshore: ${error.message}`);
      return 1;
    }
    throw error;
  }
}
