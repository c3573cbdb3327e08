import { expect, it } from "vitest";
import { dayOf, endOfDay } from "./local-day.ts";

it.each([
  ["2026-03-01T23:59:59Z", "UTC", "2026-03-01", "2026-03-02T00:00:00Z"],
  ["2026-03-01T23:30:00Z", "Europe/Vienna", "2026-03-02", "2026-03-02T23:00:00Z"],
  // A day of 23 hours, a day of 25, and a zone of three quarters of an hour.
  ["2026-03-28T23:00:00Z", "Europe/Vienna", "2026-03-29", "2026-03-29T22:00:00Z"],
  ["2026-10-24T22:00:00Z", "Europe/Vienna", "2026-10-25", "2026-10-25T23:00:00Z"],
  ["2026-01-01T12:00:00Z", "Asia/Kathmandu", "2026-01-01", "2026-01-01T18:15:00Z"],
])("%s in %s is on %s, which ends at %s", (time, zone, day, end) => {
  expect(dayOf(Date.parse(time), zone)).toBe(day);
  expect(endOfDay(Date.parse(time), zone)).toBe(Date.parse(end));
});
