import { commands } from "./command.ts";
import { runCommandLine } from "./command-line.ts";

process.exitCode = await runCommandLine(commands, process.argv.slice(2));
