import { readFile } from "node:fs/promises";
import { SetupError } from "./errors.ts";

/** Counted tests. */
export interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** The part of Vitest's JSON report that is read here. */
export interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly testResults: readonly {
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
}

/**
 * What a run of Vitest came to. A file that could not be loaded, or whose hooks failed, counts as one
 * failed test, and so does a failed run that shows no other (an unhandled rejection, no test found).
 *
 * @param exitStatus Vitest's own.
 */
export function outcomeOf(report: Report, exitStatus: number): Outcome {
  const brokenFiles = report.testResults.filter(
    (file) => file.status === "failed" && file.assertionResults.every(({ status }) => status !== "failed"),
  ).length;
  const failed = report.numFailedTests + brokenFiles;
  return {
    passed: report.numPassedTests,
    failed: failed === 0 && exitStatus !== 0 ? 1 : failed,
    skipped: report.numPendingTests,
  };
}

/** @throws {SetupError} `SETUP_COMMAND_FAILED` when Vitest ended without a report. */
export async function readReport(file: string, exitStatus: number): Promise<Outcome> {
  const text = await readFile(file, "utf8").catch((cause) => {
    throw new SetupError("SETUP_COMMAND_FAILED", `vitest ended with status ${exitStatus} and no report`, {
      cause,
    });
  });
  return outcomeOf(JSON.parse(text) as Report, exitStatus);
}

/** `N passed, N failed`, and the skipped ones where there are any. */
export function summaryLine(outcomes: readonly Outcome[]): string {
  const sum = (key: keyof Outcome): number => outcomes.reduce((total, outcome) => total + outcome[key], 0);
  const skipped = sum("skipped");
  return `${sum("passed")} passed, ${sum("failed")} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}
