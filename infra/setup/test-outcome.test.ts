import { describe, expect, it } from "vitest";
import { outcomeOf, type Report, summaryLine } from "./test-outcome.ts";

const report: Report = {
  numPassedTests: 3,
  numFailedTests: 0,
  numPendingTests: 0,
  testResults: [{ status: "passed", assertionResults: [{ status: "passed" }] }],
};

describe("the outcome of a run", () => {
  it("is what the report counts", () => {
    expect(outcomeOf({ ...report, numPendingTests: 2 }, 0)).toEqual({ passed: 3, failed: 0, skipped: 2 });
  });

  it("counts a file that could not be loaded as a failed test", () => {
    const testResults = [...report.testResults, { status: "failed", assertionResults: [] }];
    expect(outcomeOf({ ...report, testResults }, 1).failed).toBe(1);
  });

  it("does not count a file with a failed test twice", () => {
    const testResults = [{ status: "failed", assertionResults: [{ status: "failed" }] }];
    expect(outcomeOf({ ...report, numFailedTests: 1, testResults }, 1).failed).toBe(1);
  });

  it("is a failure when nothing but the exit status says so", () => {
    expect(outcomeOf(report, 1).failed).toBe(1);
  });
});

it("adds outcomes up in one line, with the skipped ones only where there are any", () => {
  const outcome = { passed: 2, failed: 1, skipped: 0 };
  expect(summaryLine([outcome, outcome])).toBe("4 passed, 2 failed");
  expect(summaryLine([outcome, { ...outcome, skipped: 1 }])).toBe("4 passed, 2 failed, 1 skipped");
});
