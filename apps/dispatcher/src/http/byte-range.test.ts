import { describe, expect, it } from "vitest";
import { parseRange } from "./byte-range.ts";

const whole = { kind: "whole" };
const unsatisfiable = { kind: "unsatisfiable" };
const part = (start: number, end: number) => ({ kind: "part", range: { start, end } });

describe("a Range header", () => {
  it.each([
    [undefined, 10, whole],
    ["bytes=0-0", 10, part(0, 1)],
    ["bytes=2-5", 10, part(2, 6)],
    ["bytes=9-", 10, part(9, 10)],
    ["bytes=0-999999999999999999999999", 10, part(0, 10)],
    ["bytes=-3", 10, part(7, 10)],
    ["bytes=-99", 10, part(0, 10)],
    ["BYTES= 1-2 ", 10, part(1, 3)],
  ])("%s of %i bytes", (header, size, expected) => {
    expect(parseRange(header, size)).toEqual(expected);
  });

  it.each([
    ["bytes=10-", 10],
    ["bytes=10-20", 10],
    ["bytes=99999999999999999999-", 10],
    ["bytes=-0", 10],
    ["bytes=0-", 0],
    ["bytes=0-0", 0],
  ])("%s of %i bytes can't be had", (header, size) => {
    expect(parseRange(header, size)).toEqual(unsatisfiable);
  });

  it.each([
    ["bytes=5-2", 10],
    ["bytes=0-1,3-4", 10],
    ["bytes=a-b", 10],
    ["bytes=-", 10],
    ["bytes=--1", 10],
    ["items=0-1", 10],
    ["", 10],
    ["bytes=-1", 0],
  ])("%s of %i bytes is ignored", (header, size) => {
    expect(parseRange(header, size)).toEqual(whole);
  });
});
