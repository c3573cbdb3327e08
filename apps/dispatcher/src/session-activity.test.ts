import { expect, it } from "vitest";
import { activityOf } from "./session-activity.ts";

const NOW = Date.parse("2030-01-01T00:00:00Z");

it.each([
  [
    { leasedBy: "w", waiting: 1, retryAt: 0 },
    { state: "running", worker: "w" },
  ],
  [
    { leasedBy: "w", waiting: 0, retryAt: 0 },
    { state: "lingering", worker: "w" },
  ],
  [
    { leasedBy: undefined, waiting: 1, retryAt: NOW + 1 },
    { state: "retrying", retryAt: "2030-01-01T00:00:00.001Z" },
  ],
  [{ leasedBy: undefined, waiting: 1, retryAt: NOW }, { state: "waiting" }],
  [{ leasedBy: undefined, waiting: 0, retryAt: NOW + 1 }, { state: "idle" }],
])("%j is %j", (summary, activity) => {
  expect(activityOf(summary, NOW)).toEqual(activity);
});
