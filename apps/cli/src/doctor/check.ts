/** What a check found. */
export interface Finding {
  /** What was looked at, in a word or two. */
  readonly check: string;
  /** `warning`: the fleet works, with less than is promised; `failed`: something that is needed does not. */
  readonly status: "ok" | "warning" | "failed";
  /** What was found; never a secret. */
  readonly detail: string;
  /** How to mend it; given where the status is not `ok`. */
  readonly mend?: string;
}

export const ok = (check: string, detail: string): Finding => ({ check, status: "ok", detail });

export const warning = (check: string, detail: string, mend: string): Finding => ({
  check,
  status: "warning",
  detail,
  mend,
});

export const failed = (check: string, detail: string, mend: string): Finding => ({
  check,
  status: "failed",
  detail,
  mend,
});

/** The text of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error);
}
