import { describe, expect, it } from "vitest";
import { duration, size } from "./units.ts";

describe("duration", () => {
  const schema = duration({ min: "1s", max: "24h" });

  it.each([
    ["1s", 1_000],
    ["1500ms", 1_500],
    ["1.5s", 1_500],
    ["5 m", 300_000],
    ["24h", 86_400_000],
  ])("reads %j", (text, ms) => {
    expect(schema.parse(text)).toBe(ms);
  });

  it.each(["", "5", "s", "-5s", "5S", "5 sec", "1e3s", "0.0001ms", "Infinitys", "5constructor", 5, null])(
    "refuses %j with an example of what is allowed",
    (value) => {
      const message = schema.safeParse(value).error?.issues[0]?.message;
      expect(message).toContain('a duration such as "30s"');
    },
  );

  it.each(["999ms", "25h"])("refuses %j, which is out of bounds, and names them", (text) => {
    expect(schema.safeParse(text).error?.issues[0]?.message).toContain("from 1s to 24h");
  });
});

describe("size", () => {
  const schema = size({ min: "1B", max: "1TiB" });

  it.each([
    ["1B", 1],
    ["512MiB", 536_870_912],
    ["0.5KiB", 512],
    ["1TiB", 1_099_511_627_776],
  ])("reads %j", (text, bytes) => {
    expect(schema.parse(text)).toBe(bytes);
  });

  it.each(["0B", "1.5B", "2TiB", "5MB", "5mib", "99999999999999999999B"])("refuses %j", (text) => {
    expect(schema.safeParse(text).success).toBe(false);
  });
});
