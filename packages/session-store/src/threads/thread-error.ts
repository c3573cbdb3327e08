import { errnoOf } from "@longshore/shared/session-tree";
import { BadFrameError } from "../tree/frame-codec.ts";

/**
 * An error on its way out of a thread. Structured cloning keeps its message and stack; its class and its fields, by which
 * a full disk is told from a defect, have to be carried beside.
 */
export interface ThreadError {
  readonly error: unknown;
  readonly badFrame: string | undefined;
  /** Of an error of the file system. */
  readonly system: { readonly code: string; readonly syscall: string } | undefined;
}

/** Makes an error ready to be sent. */
export function packError(error: unknown): ThreadError {
  const code = errnoOf(error);
  const system =
    code !== undefined && error instanceof Error && "syscall" in error
      ? { code, syscall: String(error.syscall) }
      : undefined;
  return { error, badFrame: error instanceof BadFrameError ? error.message : undefined, system };
}

/** Makes it what it was. */
export function unpackError({ error, badFrame, system }: ThreadError): unknown {
  if (badFrame !== undefined) return new BadFrameError(badFrame);
  return error instanceof Error && system !== undefined ? Object.assign(error, system) : error;
}
