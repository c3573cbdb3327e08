import { constants } from "node:os";
import type { SandboxExit } from "./sandbox.ts";

const SIGNAL_NAMES = new Map<number, string>(
  Object.entries(constants.signals).map(([name, number]) => [number, name] as const),
);

/**
 * An exit from a status as both runtimes tell it (128 + n for signal n).
 * @param memoryWasShort whether the kernel killed anything in the sandbox for lack of memory
 *
 * A killed child leaves the kernel's mark too while the main process goes on and may even exit with 0, so
 * the mark alone says nothing: the main process must have been killed as well.
 */
export function exitOfStatus(status: number, memoryWasShort: boolean): SandboxExit {
  const signal = status > 128 ? (SIGNAL_NAMES.get(status - 128) ?? null) : null;
  return { exitCode: status, signal, outOfMemory: memoryWasShort && signal === "SIGKILL" };
}
