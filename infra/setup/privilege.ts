import { SetupError } from "./errors.ts";
import { findProgram } from "./programs.ts";

/** Whether this process may act as root without help. */
export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/**
 * The command as root runs it: itself for root, through `sudo` for everybody else.
 *
 * @throws {SetupError} `SETUP_PROGRAM_MISSING` for who is neither root nor has `sudo`.
 */
export function asRoot(command: readonly string[]): readonly string[] {
  if (isRoot()) {
    return command;
  }
  if (findProgram("sudo") === null) {
    throw new SetupError(
      "SETUP_PROGRAM_MISSING",
      `\`${command.join(" ")}\` needs root: run this as root, or install sudo and allow it for this user`,
    );
  }
  return ["sudo", "--", ...command];
}
