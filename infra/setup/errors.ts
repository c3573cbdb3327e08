import { LongshoreError } from "@longshore/shared";

/** What can go wrong while a machine is prepared and services are started on it. */
export type SetupErrorCode =
  /** A program is not installed and this machine has no way to install it by itself. */
  | "SETUP_PROGRAM_MISSING"
  /** A command that prepares the machine ended with an error. */
  | "SETUP_COMMAND_FAILED"
  /** A service ended, or did not answer in time, while it was started. */
  | "SETUP_SERVICE_FAILED"
  /** A service that the environment names does not answer, or its description is incomplete. */
  | "SETUP_SERVICE_UNUSABLE";

/** The message names what to do about it; it is printed as it is, without a stack. */
export class SetupError extends LongshoreError {
  constructor(code: SetupErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(code, message, options);
  }
}
