import { expect, it } from "vitest";
import { TurnLog } from "./turn-log.ts";

const clock = { now: () => 0, monotonic: () => 0 };
const lines = (log: TurnLog) =>
  log
    .read()
    .toString()
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

it("says what happened, a line for each, with pieces of text together", () => {
  const log = new TurnLog(clock, { turnId: "t" });
  for (const text of ["a", "b", "c"]) log.update({ type: "text", text });
  log.update({ type: "tool", id: "1", title: "ls", status: "pending" });
  log.update({ type: "text", text: "d" });
  log.add("end", { outcome: "answered" });
  const at = "1970-01-01T00:00:00.000Z";
  expect(lines(log)).toEqual([
    { at, type: "turn", turnId: "t" },
    { at, type: "text", text: "abc" },
    { at, type: "tool", id: "1", title: "ls", status: "pending" },
    { at, type: "text", text: "d" },
    { at, type: "end", outcome: "answered" },
  ]);
});

it("keeps the beginning and the end of what is too much, and counts the rest", () => {
  const log = new TurnLog(clock, {});
  const count = 1_000;
  for (let n = 0; n < count; n++) log.update({ type: "reply", text: `${n} ${"ä".repeat(5_000)}` });
  const read = lines(log);
  expect(log.read().length).toBeLessThan(1024 ** 2 + 64 * 1024);
  expect(read[1].text).toMatch(/^0 /);
  expect(read.at(-1)?.text).toMatch(/^999 /);
  const lost = read.find(({ type }) => type === "lost").entries;
  expect(read.length - 2 + lost).toBe(count);
});

it("cuts long texts, and never keeps one without a bound", () => {
  const log = new TurnLog(clock, {});
  log.update({ type: "reply", text: "x".repeat(10_000_000) });
  for (let n = 0; n < 1_000; n++) log.update({ type: "text", text: "y".repeat(10_000) });
  expect(log.read().length).toBeLessThan(1024 ** 2 + 64 * 1024);
});
