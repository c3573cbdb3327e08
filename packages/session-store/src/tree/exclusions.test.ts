import { describe, expect, it } from "vitest";
import { pathOf } from "../format/byte-path.ts";
import { compilePatterns } from "./exclusions.ts";

describe("patterns of paths", () => {
  it.each([
    ["**/.cache/**", "workspace/.cache/a/b", true],
    ["**/.cache/**", ".cache/a", true],
    ["**/.cache/**", "workspace/.cache", false],
    ["**/.cache", "workspace/.cache", true],
    ["**/node_modules", "node_modules", true],
    ["*.tmp", "a.tmp", true],
    ["*.tmp", "d/a.tmp", false],
    ["**/*.{tmp,log}", "d/e/a.log", true],
    ["**/*.{tmp,log}", "d/e/a.txt", false],
    ["a?c", "abc", true],
    ["a?c", "a/c", false],
    ["a.c", "abc", false],
    ["workspace/(x)+", "workspace/(x)+", true],
    ["ü*", "über", true],
    ["/workspace/x", "workspace/x", true],
    ["a**b", "a/x/b", true],
    ["line*", "line\nbreak", true],
  ])("%j matches %j: %j", (pattern, path, expected) => {
    expect(compilePatterns([pattern])?.(pathOf(path))).toBe(expected);
  });

  it("are none where none are given", () => {
    expect(compilePatterns([])).toBeUndefined();
  });
});
